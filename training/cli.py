"""The `instructerc-train` command, from data to a report."""

import asyncio
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from service.conversation.labels import UNIFIED, load_label_spaces
from training.bases import MINILM_CAUSAL, build_base

app = typer.Typer(
    help="Train models for emotion recognition in conversation.",
    no_args_is_help=True,
    add_completion=False,
)

data_app = typer.Typer(help="Come by corpora.", no_args_is_help=True)
app.add_typer(data_app, name="data")

_DATA = Path(__file__).resolve().parents[1] / "data"
_Spaces = Annotated[
    Path, typer.Option(help="Folder of label spaces, demonstrations and corpora's homes.")
]


@data_app.command("fetch")
def fetch_data(
    corpora: Annotated[list[str], typer.Argument(help="meld, emorynlp, goemotions, ...")],
    data: Annotated[Path, typer.Option(help="Folder that recipes' corpus paths begin at.")],
    label_data: _Spaces = _DATA,
) -> None:
    """Download corpora from their public homes, with checked hashes; goes on where it ended."""
    from training.download import fetch, load_manifest

    with _errors():
        manifests = [load_manifest(label_data / "corpora", name) for name in corpora]
        for manifest in manifests:
            fetch(manifest, data, _say)


@data_app.command("convert")
def convert_data(
    source: Annotated[Path, typer.Argument(help="A shared pickle of IEMOCAP, MELD or EmoryNLP.")],
    label_space: Annotated[str, typer.Option(help="iemocap, meld or emorynlp.")],
    out: Annotated[Path, typer.Option(help="Folder for train.jsonl, dev.jsonl and test.jsonl.")],
    label_data: _Spaces = _DATA,
) -> None:
    """Write the dialogues of a shared pickle as JSONL, without running what is in it."""
    from service.conversation.dialogue import write_dialogues
    from training.datasets import pickles

    with _errors():
        spaces = load_label_spaces(label_data / "label_spaces")
        if label_space not in spaces:
            raise ValueError(f"no label space {label_space!r}: {', '.join(spaces)}")
        splits = pickles.read(source, spaces[label_space])
        out.mkdir(parents=True, exist_ok=True)
        for split, dialogues in splits.items():
            write_dialogues(dialogues, out / f"{split}.jsonl")
            _say(f"{out / f'{split}.jsonl'}: {len(dialogues)} dialogues")


@app.command()
def base(
    out: Annotated[Path, typer.Argument(help="Folder to write the base to.")],
    name: Annotated[str, typer.Option(help="Which base.")] = MINILM_CAUSAL,
) -> None:
    """Build a base model from packaged weights, without a model hub."""
    with _errors():
        build_base(name, out)
    _say(f"base {name} written to {out}")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or the path of a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for the adapter.")],
    data: Annotated[Path, typer.Option(help="Folder that the recipe's corpus paths begin at.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    save_every: Annotated[
        int, typer.Option(min=1, help="Steps between two checkpoints: what a kill can lose.")
    ] = 200,
    label_data: _Spaces = _DATA,
) -> None:
    """Fine-tune as a recipe says; started again after a kill, it goes on from its checkpoint."""
    from training.recipe_files import load_recipe, recipe_path

    with _errors():
        resolved = load_recipe(recipe_path(recipe))
        spaces = load_label_spaces(label_data / "label_spaces")
        from service.demonstrations.corpus import read_demonstrations
        from service.demonstrations.encoder import load_encoder
        from training import finetune
        from training.mixing import Sources

        encoder = load_encoder()
        sources = Sources(
            data=data,
            label_spaces=spaces,
            shipped=read_demonstrations(label_data / "demonstrations.jsonl", spaces),
            encode_texts=encoder.encode_now,
        )
        finetune.train(resolved, base, sources, encoder.identity, out, save_every)
    _say(f"adapter written to {out}")


@app.command()
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
    processes: Annotated[int, typer.Option(min=1, help="That train one run together.")] = 1,
    test: Annotated[
        bool, typer.Option("--test", help="Read the test splits, when everything is chosen.")
    ] = False,
) -> None:
    """Train, merge and score every run of a recipe; started again, it goes on where it was.

    A run of its own is made of each change that the recipe varies, and of each seed.
    """
    from training.experiment import Options, described, run_experiment
    from training.recipe_files import load_runs, recipe_path

    with _errors():
        runs = load_runs(recipe_path(recipe))
        if unknown := set(only or ()) - runs.keys():
            known = ", ".join(runs)
            raise ValueError(f"{recipe} has no run {', '.join(sorted(unknown))}: {known}")
        chosen = {name: runs[name] for name in only or runs}
        out.mkdir(parents=True, exist_ok=True)
        options = Options(data, base, out, tuple(seed or ()), processes, test)
        _say(described(run_experiment(chosen, options)))


@app.command()
def merge(
    adapter: Annotated[Path, typer.Argument(help="Folder that `train` wrote.")],
    base: Annotated[Path, typer.Option(help="Folder of the base it was trained on.")],
    out: Annotated[Path, typer.Option(help="Folder for the bundle.")],
) -> None:
    """Merge what was trained into its base: the bundle that the service loads."""
    from training.merge import merge as merge_adapter

    with _errors():
        merge_adapter(adapter, base, out)
    _say(f"bundle written to {out}")


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    corpus: Annotated[
        list[str],
        typer.Option(
            help="meld:PATH, emorynlp:PATH, iemocap:FOLDER, dailydialog:FOLDER or "
            "jsonl/LABEL_SPACE:PATH; repeatable."
        ),
    ],
    unified: Annotated[
        bool, typer.Option(help="Score all corpora in the unified label space too.")
    ] = False,
    demonstrations: Annotated[
        bool, typer.Option(help="Show the shipped demonstrations to the model.")
    ] = True,
    record: Annotated[
        list[Path] | None,
        typer.Option(help="Bundle or adapter to write calibration and scores into; repeatable."),
    ] = None,
    calibration: Annotated[
        Literal["temperature", "isotonic"],
        typer.Option(help="What to fit: one temperature, or a curve for each label."),
    ] = "temperature",
    predictions: Annotated[
        Path | None, typer.Option(help="File for what was said of each utterance, as JSONL.")
    ] = None,
    task: Annotated[
        str, typer.Option(help="main, or prediction: turns are forecast, not shown.")
    ] = "main",
    label_orders: Annotated[
        int,
        typer.Option(min=0, help="Ask again in so many random orders of the prompt's labels."),
    ] = 0,
    free_decode: Annotated[
        bool,
        typer.Option(
            "--free-decode", help="Let the model speak too: is what it says a label, and the same?"
        ),
    ] = False,
) -> None:
    """Score a bundle through the parts that serve; one JSON line a label space."""
    os.environ["ERC_BUNDLE"] = str(bundle)
    with _errors(), tempfile.TemporaryDirectory(prefix="demonstrations-") as index:
        from service.decoding.bundle import read_bundle
        from service.settings import load_settings
        from training import evaluate as evaluation
        from training.calibration import calibrated
        from training.datasets.reading import read_named
        from training.free_decoding import open_speaker
        from training.predictions import write_predictions
        from training.tasks import with_unified_labels

        if task not in ("main", "prediction"):
            raise ValueError(f"no task {task!r} to score: main, prediction")
        if task == "prediction" and (record or label_orders or free_decode):
            raise ValueError("a forecast has no calibration, order or speech of its own to score")
        settings = load_settings()
        spaces = load_label_spaces(settings.data / "label_spaces")
        corpora = [read_named(entry, spaces) for entry in corpus]
        trained = read_bundle(bundle).label_spaces
        # A bundle of unified labels alone is asked in those alone.
        labelled = [
            (c.label_space, c.dialogues)
            for c in corpora
            if not unified or c.label_space.name in trained
        ]
        if unified:
            together = [
                dialogue
                for c in corpora
                for dialogue in with_unified_labels(c.dialogues, c.label_space)
            ]
            labelled.append((spaces[UNIFIED], tuple(together)))
        found = asyncio.run(
            evaluation.evaluate(
                settings,
                labelled,
                Path(index),
                demonstrations,
                _say_aside,
                task=task,  # type: ignore[arg-type]
                label_orders=label_orders,
                prompts=free_decode,
            )
        )
        known = [(asked, trained[asked.said.label_space]) for asked in found]
        if predictions is not None:
            served = [calibrated(asked.said, own.calibration) for asked, own in known]
            write_predictions(served, predictions)
        texts: list[list[str] | None] = [None] * len(known)
        if free_decode:
            _say_aside("letting the model speak")
            speak = open_speaker(bundle)
            texts = [speak(asked.prompts, [*own.verbalizers.values()]) for asked, own in known]
        scores = [
            evaluation.score(asked, own, calibration, said)
            for (asked, own), said in zip(known, texts, strict=True)
        ]
        for score in scores:
            _say(json.dumps(score.to_json()))
        for folder in record or ():
            evaluation.record(scores, folder)


@app.command("baselines")
def write_baselines(
    train: Annotated[str, typer.Option(help="What they may know, as FORMAT:PATH.")],
    corpus: Annotated[str, typer.Option(help="What they are asked, as FORMAT:PATH.")],
    out: Annotated[Path, typer.Option(help="Folder for each one's predictions, as JSONL.")],
    label_data: _Spaces = _DATA,
) -> None:
    """Answer with what needs no language model: majority, copied, neighbours, classifier."""
    from training.baselines import baselines, encode_split
    from training.datasets.reading import read_named
    from training.predictions import write_predictions

    with _errors():
        spaces = load_label_spaces(label_data / "label_spaces")
        known, asked = read_named(train, spaces), read_named(corpus, spaces)
        space = known.label_space
        if asked.label_space.name != space.name:
            raise ValueError(f"{train} is in {space.name}, {corpus} in {asked.label_space.name}")
        from service.demonstrations.encoder import load_encoder

        encode = load_encoder().encode_now
        _say_aside("encoding; fitting the classifier takes a minute or two")
        splits = [encode_split(c.dialogues, space, encode) for c in (known, asked)]
        out.mkdir(parents=True, exist_ok=True)
        for name, predictions in baselines(splits[0], splits[1], space).items():
            write_predictions([predictions], out / f"{name}.jsonl")
            _say(f"{out / name}.jsonl: {len(predictions.answers)} utterances")


@app.command()
def compare(
    predictions: Annotated[
        list[Path], typer.Argument(help="Files of `evaluate --predictions`; the first is compared.")
    ],
    out: Annotated[Path | None, typer.Option(help="File for every measure, as JSON.")] = None,
) -> None:
    """Measure predictions, with 95% intervals, and the first file's lead over each other one.

    Intervals and leads are of weighted F1, in percent, by drawing dialogues with replacement.
    """
    from training.comparing import compared, described
    from training.predictions import read_predictions

    with _errors():
        short = len({path.stem for path in predictions}) == len(predictions)
        read = [(path.stem if short else str(path), read_predictions(path)) for path in predictions]
        found = compared(read)
        if out is not None:
            out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    _say(described(found))


@app.command()
def report(
    predictions: Annotated[
        list[Path],
        typer.Argument(
            help="Files of `evaluate --predictions` or `baselines`; NAME@SEED.jsonl are runs of "
            "one model."
        ),
    ],
    out: Annotated[Path, typer.Option(help="HTML file; every measure is in a .json beside it.")],
    fit: Annotated[
        list[Path] | None,
        typer.Option(
            help="Predictions of other utterances, as of a development split, under the same name, "
            "to fit calibrations on; repeatable. Without: cross-fitted by dialogue."
        ),
    ] = None,
) -> None:
    """Write a page of tables and plots about models, and everything measured as JSON."""
    from service.files import written_whole
    from training.page import page
    from training.report import read_runs, reported

    with _errors():
        if out.suffix == ".json":
            raise ValueError(f"{out}: is where the measures go; name the page .html")
        spaces = reported(read_runs(predictions, fit or ()))
        measures = out.with_suffix(".json")
        with written_whole(out) as html, written_whole(measures) as file:
            html.write(page(spaces))
            json.dump({space.label_space: space.to_json() for space in spaces}, file, indent=1)
    _say(f"{out} and {measures} written")


@app.command()
def prompts(
    source: Annotated[Path, typer.Argument(metavar="IN.jsonl", help="Dialogues, one a line.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="One prompt an utterance.")],
    template: Annotated[
        str, typer.Option(help="v2, instructerc-v1, instructerc-plain-v1 or dialoguellm-v1.")
    ] = "v2",
    task: Annotated[str, typer.Option(help="main, speaker or prediction.")] = "main",
    label_space: Annotated[
        str, typer.Option(help="meld, emorynlp, iemocap, dailydialog, unified.")
    ] = UNIFIED,
    window: Annotated[
        int | None, typer.Option(min=0, help="History lines; by default the template's own.")
    ] = None,
    label_data: _Spaces = _DATA,
) -> None:
    """Write the prompts and targets of a file of dialogues."""
    from typing import get_args

    from service.conversation.dialogue import HistoryWindow
    from training.prompt_files import Task, known_template, write_prompts

    with _errors():
        if task not in get_args(Task):
            raise ValueError(f"no task {task!r}: {', '.join(get_args(Task))}")
        spaces = load_label_spaces(label_data / "label_spaces")
        if label_space.casefold() not in spaces:
            raise ValueError(f"no label space {label_space!r}: {', '.join(spaces)}")
        chosen = known_template(template)
        shown = chosen.window if window is None else HistoryWindow(window, window)
        space = spaces[label_space.casefold()]
        rows = write_prompts(source, target, chosen, task, space, shown)  # type: ignore[arg-type]
    _say(f"{rows} prompts written to {target}")


@contextmanager
def _errors() -> Iterator[None]:
    """Turn what a user can mend into one line and exit status 2."""
    from service.errors import ServiceError

    # Of several processes that train together, the first speaks.
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", stream=sys.stderr)
    for name in ("httpx", "sentence_transformers", "vllm"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    except (ValueError, OSError, ServiceError) as error:
        _fail(str(error))


def _say(message: str) -> None:
    print(message, flush=True)


def _say_aside(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _fail(message: str) -> NoReturn:
    print(f"instructerc-train: {message}", file=sys.stderr)
    raise typer.Exit(2)


def main() -> None:
    """Entry point of the `instructerc-train` script."""
    app()


if __name__ == "__main__":
    main()
