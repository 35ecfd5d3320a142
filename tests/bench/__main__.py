"""`python -m tests.bench`: the benchmark, and what belongs to it."""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from service.conversation.dialogue import Dialogue
from service.conversation.labels import LabelSpace, load_label_spaces
from tests.bench import run as running
from tests.bench.floor import find_floors, measure_matrix_rate
from tests.bench.machine import REPOSITORY, describe, slug
from tests.bench.results import write_results
from tests.bench.setup import Setup
from tests.bench.shape import MELD_SHAPE, shape_of, write_shape
from tests.bench.table import floors_table, stages_table, table, targets_table
from tests.bench.targets import verdicts

BUNDLE = REPOSITORY / "build" / "bundles" / "erc-mini"
# What keeps the libraries from instructions that the processor has.
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    bundle: Annotated[Path, typer.Option(help="Folder of the model bundle.")] = BUNDLE,
    dialogues: Annotated[
        Path | None,
        typer.Option(help="Dialogues, one a line, in place of synthetic ones of MELD's shape."),
    ] = None,
    rows: Annotated[str, typer.Option(help="Which rows, separated by commas.")] = ",".join(
        running.ROWS
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Less of everything.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File of the results; a run of all rows that is not quick has one in data/results "
            "without being told."
        ),
    ] = None,
) -> None:
    """Measure the service beside what it is compared with, and print one table.

    a: transformers generate as the published code evaluates. b: vLLM with the published prompt and
    constrained choice. c: the service's engine alone. c': vLLM's own server. d: POST /batch.
    d': the same, with vLLM on a server. e: POST utterances.
    Settings in variables ERC_... apply to the service and its engine.
    """
    if context.invoked_subcommand is not None:
        return
    chosen = [name.strip() for name in rows.split(",")]
    unknown = [name for name in chosen if name not in running.ROWS]
    if unknown:
        raise typer.BadParameter(f"no row {', '.join(unknown)}: {', '.join(running.ROWS)}")
    described = describe() | {
        "date": datetime.now(UTC).date().isoformat(),
        "options": {
            "bundle": bundle.name,
            "dialogues": "of MELD's shape" if dialogues is None else dialogues.name,
            "quick": quick,
            "settings": {
                k: v for k, v in os.environ.items() if k.startswith(("ERC_ENGINE__", *_LIMITS))
            },
        },
    }
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        setup = Setup(
            bundle=str(bundle.resolve()),
            folder=folder,
            dialogues=None if dialogues is None else str(dialogues.resolve()),
            quick=quick,
        )
        try:
            measurements = running.run(setup, chosen, _say)
            floors = []
            if "c" in chosen:
                floors = find_floors(setup, measurements, running.matrix_rate(setup, _say))
        except running.RowFailed as error:
            _say(str(error))
            raise typer.Exit(1) from None
    judged = verdicts(measurements)
    print(json.dumps(described["hardware"]), json.dumps(described["versions"]), sep="\n")
    for part in (
        table(measurements),
        stages_table(measurements),
        floors_table(floors),
        targets_table(judged),
    ):
        if part:
            print("", part, sep="\n")
    if out is None and not quick and chosen == list(running.ROWS):
        out = REPOSITORY / "data" / "results" / f"bench-{slug(described)}.json"
    if out is not None:
        write_results(out, described, measurements, floors, judged)
        _say(f"written to {out}")


@app.command()
def agreement(
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            help="meld:PATH, emorynlp:PATH or jsonl/LABEL_SPACE:PATH; repeatable. Left out: "
            "synthetic dialogues."
        ),
    ] = None,
    bundle: Annotated[Path, typer.Option(help="Folder of the model bundle.")] = BUNDLE,
    demonstrations: Annotated[
        bool, typer.Option(help="Include the shipped demonstrations in prompts.")
    ] = True,
) -> None:
    """Compare the labels of the fast path with the plain one's; exit 1 below 99.5% equal ones."""
    from tests.bench import agreement as agreeing
    from training.datasets.errors import DatasetError
    from training.datasets.reading import read_named

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        setup = Setup(bundle=str(bundle.resolve()), folder=folder)
        spaces = load_label_spaces(REPOSITORY / "data" / "label_spaces")
        spoken: list[tuple[Sequence[Dialogue], LabelSpace]] = []
        for entry in corpus or ():
            try:
                read = read_named(entry, spaces)
            except DatasetError as error:
                raise typer.BadParameter(str(error)) from None
            spoken.append((read.dialogues, read.label_space))
        if not spoken:
            spoken.append((setup.passes(1), setup.load_bundle()[1]))
        agreements = agreeing.measure(setup, spoken, demonstrations=demonstrations, report=_say)
    for each in agreements:
        print(agreeing.described(each))
    share = agreeing.equal_share(agreements)
    print(f"all: {share:.2%} equal")
    if share < agreeing.ENOUGH:
        raise typer.Exit(1)


@app.command(hidden=True)
def prepare(folder: Path) -> None:
    """Record the service's prompts for a run."""
    running.prepare(folder)


@app.command(hidden=True)
def row(
    module: str, folder: Path, out: Path, demonstrations: Annotated[bool, typer.Option()]
) -> None:
    """Measure one row of a run in this process."""
    running.measure_row(module, folder, out, demonstrations)


@app.command(hidden=True)
def matrix_rate(out: Path) -> None:
    """Measure how fast matrices are multiplied."""
    out.write_text(json.dumps(measure_matrix_rate()))


@app.command()
def shape(
    corpus: Annotated[Path, typer.Argument(help="MELD's dev_sent_emo.csv.")],
    dialogues: Annotated[int, typer.Option(help="How many, from the first.")] = 60,
) -> None:
    """Write meld_shape.json anew: speakers and word counts of MELD's dialogues, no text."""
    from training.datasets.reading import read_corpus

    corpus_read = read_corpus(
        "meld", corpus, load_label_spaces(REPOSITORY / "data" / "label_spaces")
    )
    source = f"declare-lab/MELD, data/MELD/{corpus.name}, the first {dialogues} dialogues"
    write_shape(shape_of(corpus_read.dialogues[:dialogues]), source, MELD_SHAPE)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    app()
