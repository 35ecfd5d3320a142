"""Commands that make a base, an adapter or a merged bundle."""

from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from service.conversation.labels import load_label_spaces
from service.environment import set_up_training
from training.commands.terminal import DATA, Force, LabelData, errors, say
from training.finetuning.bases import BUILT_HERE, build_base, convert_base
from training.finetuning.minilm import MINILM_CAUSAL

Compiled = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the model's layers, which makes the steps faster after some minutes; on a "
        "CPU this requires a C++ compiler.",
    ),
]

Teacher = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the bundle whose predictions a stage learns, if the recipe names one "
        "(`pseudo_labels: {bundle: NAME}`)."
    ),
]


def base(
    out: Annotated[Path, typer.Argument(help="Folder to write the base to.")],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the base, if it differs from that of the folder."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Folder of a ChatGLM2, ChatGLM3 or GLM-4-9B model to convert; its code is not "
            "run.",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Build a base model from packaged weights, without a model hub, or convert a ChatGLM model.

    The folder's name selects the base, as in `base smollm2-135m`; other names give minilm-causal.
    """
    with errors():
        if source is not None:
            if name is not None:
                raise ValueError("use either --name, to build a base, or --from, to convert one")
            convert_base(source, out, force=force)
            what = str(source)
        else:
            what = name or (out.name if out.name in BUILT_HERE else MINILM_CAUSAL)
            build_base(what, out, force=force)
    say(f"base {what} written to {out}")


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or path of a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for the adapter.")],
    data: Annotated[
        Path, typer.Option(help="Folder to which the recipe's corpus paths are relative.")
    ],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    only: Annotated[
        str | None, typer.Option(help="Run to train, if the recipe file has several.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed to use instead of the recipe's.")] = None,
    save_every: Annotated[
        int,
        typer.Option(min=1, help="Steps between two checkpoints: the most that a kill can lose."),
    ] = 200,
    compiled: Compiled = False,
    shared: Annotated[
        Path | None, typer.Option(help="Folder of first stages that several runs share.")
    ] = None,
    demonstrations: Annotated[
        Path | None,
        typer.Option(
            help="File for the demonstrations that the last stage draws from its corpora, for "
            "`evaluate --demonstrations-file`; it contains text of the corpora."
        ),
    ] = None,
    teacher: Teacher = None,
    label_data: LabelData = DATA,
) -> None:
    """Fine-tune according to a recipe; after a kill, the same command resumes from a checkpoint."""
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

        encoder = cache(load_encoder)  # only after all other checks: it takes seconds
        sources = Sources(
            data=data,
            label_spaces=spaces,
            shipped=read_demonstrations(label_data / "demonstrations.jsonl", spaces),
            encode_texts=lambda texts: encoder().encode_now(texts),
            encoder=IDENTITY,
            teacher=teacher,
        )
        finetune.train(
            resolved,
            base,
            sources,
            out,
            save_every=save_every,
            compiled=compiled,
            shared=shared,
            demonstrations=demonstrations,
        )
    say(f"adapter written to {out}")


def run(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or path of a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs, each in its own subfolder.")],
    data: Annotated[
        Path, typer.Option(help="Folder to which the corpus paths of recipes are relative.")
    ],
    base: Annotated[
        Path | None, typer.Option(help="Folder of the base model, if `base` cannot build it.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Run of the recipe to train; repeatable.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed to use; repeatable.")] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that train one run together, one on each GPU."),
    ] = None,
    launch: Annotated[
        Path | None,
        typer.Option(
            help="Configuration of `accelerate launch`, such as training/launch/fsdp.yaml; "
            "without --processes it also sets the number of processes."
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(min=1, help="Runs to train at the same time, each on its share of the cores."),
    ] = 1,
    compiled: Compiled = False,
    teacher: Teacher = None,
    test: Annotated[
        bool, typer.Option("--test", help="Score the test splits, once all choices are made.")
    ] = False,
) -> None:
    """Train, merge and score every run of a recipe; the same command resumes where it stopped.

    Each change that the recipe varies, and each seed, is a run.
    """
    set_up_training()
    from training.experiment import Options, results_tables, run_experiment
    from training.recipe_files import check_runs, load_runs, recipe_path
    from training.yaml_files import read_yaml

    with errors():
        runs = load_runs(recipe_path(recipe))
        check_runs(only or (), runs, recipe)
        chosen = {name: runs[name] for name in only or runs}
        bases = {run.base for run in chosen.values()}
        if base is not None and len(bases) > 1:
            named = ", ".join(sorted(bases))
            raise ValueError(
                f"--base names one folder, but the runs have the bases {named}: choose with --only"
            )
        if launch is not None and not launch.is_file():
            raise ValueError(f"--launch {launch}: does not exist")
        if launch is not None:
            read_yaml(launch, ValueError)  # accelerate would use the last of two equal keys
        options = Options(
            data, base, out, tuple(seed or ()), processes, launch, jobs, compiled, test, teacher
        )
        say(results_tables(run_experiment(chosen, options)))


def merge(
    adapter: Annotated[Path, typer.Argument(help="Folder that `train` wrote.")],
    base: Annotated[Path, typer.Option(help="Folder of the base that it was trained on.")],
    out: Annotated[Path, typer.Option(help="Folder for the bundle.")],
    force: Force = False,
) -> None:
    """Merge an adapter into its base: the result is the bundle that the service loads."""
    from training.finetuning.merge import merge as merge_adapter

    with errors():
        merge_adapter(adapter, base, out, force=force)
    say(f"bundle written to {out}")
