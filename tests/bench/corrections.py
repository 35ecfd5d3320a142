"""`python -m tests.bench.corrections`: whether what people correct is what is answered from then.

Asked over HTTP of a service of its own, which serves the default unless told otherwise, with an
empty database; every part has a tenant of its own, so that none sees what another one corrects.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from service.conversation.labels import LabelSpace, load_label_spaces
from tests.bench import correction_rows as rows
from tests.bench import run as running
from tests.bench.correction_figures import Figure, figures_table
from tests.bench.correction_lines import read_rewordings
from tests.bench.correction_rows import Spoken
from tests.bench.machine import REPOSITORY, describe
from tests.bench.rows.engine import ONE_BY_ONE
from tests.bench.rows.utterances import closed_name
from tests.bench.setup import Setup
from tests.bench.tenants import Tenant, served
from training.datasets.leakage import without_held_out
from training.datasets.reading import read_corpus

PARTS = ("lines", "rewordings", "short", "contradictions", "splits", "speed")
_TENANTS = ("lines", "bystander", "rewordings", "short", "twice", "nearly", "splits")
_FILES = {
    "meld": ("meld/dev_sent_emo.csv", "meld/train_sent_emo.csv"),
    "emorynlp": ("emorynlp/emorynlp_dev_final.csv", "emorynlp/emorynlp_train_final.csv"),
}
_WRONG = 80
_CONTRADICTED = 30
_ADDED = 1000
_MEDIAN = 1.6  # of a turn with demonstrations, over the engine alone


@dataclass(frozen=True, slots=True)
class Material:
    """Dialogues by label space; no training dialogue is one of the development splits."""

    spaces: dict[str, LabelSpace]
    dev: Spoken
    train: Spoken


def read_material(data: Path) -> Material:
    """Read both splits of both corpora.

    Raises:
        DatasetError: a file is missing or broken.
    """
    spaces = dict(load_label_spaces(REPOSITORY / "data" / "label_spaces"))
    dev = [read_corpus(name, data / files[0], spaces) for name, files in _FILES.items()]
    train = [read_corpus(name, data / files[1], spaces) for name, files in _FILES.items()]
    apart = without_held_out(train, dev)
    return Material(
        spaces,
        {corpus.label_space.name: corpus.dialogues for corpus in dev},
        {corpus.label_space.name: corpus.dialogues for corpus in apart},
    )


async def measure(
    setup: Setup, material: Material, parts: Sequence[str], seed: int
) -> list[Figure]:
    """The parts that ask a service, in their order."""
    figures: list[Figure] = []
    dev, train, spaces = material.dev, material.train, material.spaces
    _say("starting the service")
    with served(setup, _TENANTS) as (server, keys):
        async with AsyncExitStack() as stack:
            tenants = {
                name: await stack.enter_async_context(Tenant(server.port, key))
                for name, key in keys.items()
            }
            wrong: list[rows.Wrong] = []
            if {"lines", "contradictions"} & set(parts):
                _say(f"looking for {_WRONG} lines that are labelled wrongly")
                wrong = await rows.wrongly_labelled(tenants["bystander"], dev, _WRONG, seed)
            if "lines" in parts:
                learner, bystander = tenants["lines"], tenants["bystander"]
                figures += _told(
                    await rows.lines(learner, bystander, dev, spaces, wrong, seed, _say)
                )
            if "rewordings" in parts:
                pairs = read_rewordings()
                figures += _told(await rows.rewordings(tenants["rewordings"], pairs, _say))
            if "short" in parts:
                figures += _told(await rows.short_lines(tenants["short"], dev, seed, _say))
            if "contradictions" in parts:
                few = wrong[:: -(-len(wrong) // _CONTRADICTED)]
                twice, nearly = tenants["twice"], tenants["nearly"]
                figures += _told(await rows.contradictions(twice, nearly, spaces, few, _say))
            if "splits" in parts:
                splits = tenants["splits"]
                figures += _told(await rows.splits(splits, dev, train, spaces, _ADDED, seed, _say))
    return figures


def speed(setup: Setup) -> Figure:
    """Row 8: a turn of one conversation beside the engine alone, as the benchmark measures both.

    Raises:
        RowFailed: one of them could not be measured.
    """
    measured = running.run(setup, ["c", "e"], _say, variants=(True,))
    medians = {each.key: each.latency_ms.p50 for each in measured}
    turn, alone = medians["e", closed_name(1), True], medians["c", ONE_BY_ONE, True]
    return Figure(
        row="8",
        name="median turn with demonstrations over the engine alone, a ratio",
        asked=1,
        value=turn / alone,
        wanted=_MEDIAN,
        at_least=False,
        note=f"{turn:.1f} and {alone:.1f} ms",
    )


def main(
    data: Annotated[Path, typer.Option(help="Folder of the corpora, as `data fetch` leaves it.")],
    bundle: Annotated[Path, typer.Option(help="Folder of the model bundle.")] = (
        REPOSITORY / "build" / "bundles" / "erc-mini"
    ),
    parts: Annotated[str, typer.Option(help="Which parts, by commas.")] = ",".join(PARTS),
    seed: Annotated[int, typer.Option(help="Of the lines that are drawn.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File of the results, as JSON.")] = None,
) -> None:
    """Correct lines, ask again, and print each figure beside its bar."""
    chosen = [name.strip() for name in parts.split(",")]
    if unknown := [name for name in chosen if name not in PARTS]:
        raise typer.BadParameter(f"no part {', '.join(unknown)}: {', '.join(PARTS)}")
    described: dict[str, Any] = describe() | {
        "date": datetime.now(UTC).date().isoformat(),
        "options": {"bundle": bundle.name, "parts": chosen, "seed": seed},
    }
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        setup = Setup(bundle=str(bundle.resolve()), folder=folder, quick=True)
        if set(chosen) - {"speed"}:
            figures += uvloop.run(measure(setup, read_material(data), chosen, seed))
        if "speed" in chosen:
            figures.append(speed(setup))
    figures.sort(key=lambda figure: (figure.row == "+", figure.row))
    print(figures_table(figures))
    if out is not None:
        lines = [asdict(figure) | {"met": figure.met} for figure in figures]
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(described | {"figures": lines}, indent=1) + "\n")


def _told(figures: list[Figure]) -> list[Figure]:
    """Figures of a part, shown at once: the run goes on for long."""
    _say(figures_table(figures))
    return figures


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
