"""Commands that make a model: base, adapter, merged bundle."""

from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from service.conversation.labels import load_label_spaces
from service.environment import set_up_training
from training.commands.terminal import DATA, Force, LabelData, errors, say
from training.finetuning.bases import BUILT_HERE, build_base, convert_base
from training.finetuning.minilm import MINILM_CAUSAL


def base(
    out: Annotated[Path, typer.Argument(help="Folder to write the base to.")],
    name: Annotated[
        str | None,
        typer.Option(help="Which base, if not the one that the folder is named for."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Folder of a ChatGLM2, ChatGLM3 or GLM-4-9B to convert; its code is not run.",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Build a base model from packaged weights, without a model hub, or convert a ChatGLM.

    It is the base that the folder is named for, and else minilm-causal: `base smollm2-135m`.
    """
    with errors():
        if source is not None:
            if name is not None:
                raise ValueError("--name is of a base that is built here, --from of one to convert")
            convert_base(source, out, force=force)
            what = str(source)
        else:
            what = name or (out.name if out.name in BUILT_HERE else MINILM_CAUSAL)
            build_base(what, out, force=force)
    say(f"base {what} written to {out}")


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or the path of a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for the adapter.")],
    data: Annotated[Path, typer.Option(help="Folder that the recipe's corpus paths begin at.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    only: Annotated[
        str | None, typer.Option(help="Run to do, where the recipe file has several.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed in place of the recipe's.")] = None,
    save_every: Annotated[
        int, typer.Option(min=1, help="Steps between two checkpoints: what a kill can lose.")
    ] = 200,
    shared: Annotated[
        Path | None, typer.Option(help="Folder of first stages that several runs have in common.")
    ] = None,
    demonstrations: Annotated[
        Path | None,
        typer.Option(
            help="File for those that the last stage draws from its corpora, for `evaluate "
            "--demonstrations-file`; it holds text of the corpora."
        ),
    ] = None,
    label_data: LabelData = DATA,
) -> None:
    """Fine-tune as a recipe says; started again after a kill, it goes on from its checkpoint."""
    set_up_training()
    from training.recipe_files import load_recipe, recipe_path

    with errors():
        resolved = load_recipe(recipe_path(recipe), only)
        if seed is not None:
            resolved = resolved.model_copy(update={"seed": seed})
        spaces = load_label_spaces(label_data / "label_spaces")
        from service.demonstrations.corpus import read_demonstrations
        from service.demonstrations.encoder import IDENTITY, load_encoder
        from training.finetuning import finetune
        from training.mixture.sources import Sources

        encoder = cache(load_encoder)  # when all else has been looked at: it takes seconds
        sources = Sources(
            data=data,
            label_spaces=spaces,
            shipped=read_demonstrations(label_data / "demonstrations.jsonl", spaces),
            encode_texts=lambda texts: encoder().encode_now(texts),
            encoder=IDENTITY,
        )
        finetune.train(
            resolved,
            base,
            sources,
            out,
            save_every=save_every,
            shared=shared,
            demonstrations=demonstrations,
        )
    say(f"adapter written to {out}")


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or the path of a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder that gets one for each run.")],
    data: Annotated[Path, typer.Option(help="Folder that recipes' corpus paths begin at.")],
    base: Annotated[
        Path | None, typer.Option(help="Folder of the base model, if it cannot be built here.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Run of the recipe to do; repeatable.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed to use; repeatable.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="That train one run together; of GPUs, one on each.")
    ] = None,
    launch: Annotated[
        Path | None,
        typer.Option(
            help="Configuration of `accelerate launch`, such as training/launch/fsdp.yaml; it also "
            "says how many processes, if --processes does not."
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Runs at the same time, each on its share of the cores.")
    ] = 1,
    test: Annotated[
        bool, typer.Option("--test", help="Read the test splits, when everything is chosen.")
    ] = False,
) -> None:
    """Train, merge and score every run of a recipe; started again, it goes on where it was.

    A run of its own is made of each change that the recipe varies, and of each seed.
    """
    set_up_training()
    from training.experiment import Options, described, run_experiment
    from training.recipe_files import check_runs, load_runs, recipe_path
    from training.yaml_files import read_yaml

    with errors():
        runs = load_runs(recipe_path(recipe))
        check_runs(only or (), runs, recipe)
        chosen = {name: runs[name] for name in only or runs}
        bases = {run.base for run in chosen.values()}
        if base is not None and len(bases) > 1:
            named = ", ".join(sorted(bases))
            raise ValueError(f"--base is one folder, the runs are of {named}: choose with --only")
        if launch is not None and not launch.is_file():
            raise ValueError(f"--launch {launch}: there is no such file")
        if launch is not None:
            read_yaml(launch, ValueError)  # accelerate would take the last of two keys
        options = Options(data, base, out, tuple(seed or ()), processes, launch, jobs, test)
        say(described(run_experiment(chosen, options)))


def merge(
    adapter: Annotated[Path, typer.Argument(help="Folder that `train` wrote.")],
    base: Annotated[Path, typer.Option(help="Folder of the base it was trained on.")],
    out: Annotated[Path, typer.Option(help="Folder for the bundle.")],
    force: Force = False,
) -> None:
    """Merge what was trained into its base: the bundle that the service loads."""
    from training.finetuning.merge import merge as merge_adapter

    with errors():
        merge_adapter(adapter, base, out, force=force)
    say(f"bundle written to {out}")
