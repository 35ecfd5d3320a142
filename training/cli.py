"""The `instructerc-train` command: data, base, train, merge, evaluate, prompts."""

import asyncio
import dataclasses
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, NoReturn

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
    from training.recipe import load_recipe

    with _errors():
        resolved = load_recipe(_recipe_path(recipe))
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
        typer.Option(help="Bundle or adapter to write temperatures and scores into; repeatable."),
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="File for what was said of each utterance, as JSONL.")
    ] = None,
) -> None:
    """Score a bundle through the parts that serve; one JSON line a label space."""
    os.environ["ERC_BUNDLE"] = str(bundle)
    with _errors(), tempfile.TemporaryDirectory(prefix="demonstrations-") as index:
        from service.decoding.bundle import read_bundle
        from service.settings import load_settings
        from training import evaluate as evaluation
        from training.datasets.reading import read_named
        from training.predictions import write_predictions
        from training.tasks import with_unified_labels

        settings = load_settings()
        spaces = load_label_spaces(settings.data / "label_spaces")
        corpora = [read_named(entry, spaces) for entry in corpus]
        labelled = [(c.label_space, c.dialogues) for c in corpora]
        if unified:
            together = [
                dialogue
                for c in corpora
                for dialogue in with_unified_labels(c.dialogues, c.label_space)
            ]
            labelled.append((spaces[UNIFIED], tuple(together)))
        found = asyncio.run(
            evaluation.evaluate(settings, labelled, Path(index), demonstrations, _say_aside)
        )
        if predictions is not None:
            write_predictions(found, predictions)
        known = read_bundle(bundle).label_spaces
        scores = [evaluation.score(each, known[each.label_space].temperature) for each in found]
        for score in scores:
            _say(json.dumps(dataclasses.asdict(score)))
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


def _recipe_path(recipe: str) -> Path:
    shipped = Path(str(files("training") / "recipes" / f"{recipe}.yaml"))
    return shipped if shipped.is_file() else Path(recipe)


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
