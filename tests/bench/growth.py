"""`python -m tests.bench.growth`: what a turn takes, by how much is stored already.

The number of stored dialogues is raised, then the length of the dialogue that goes on. Neither is
to matter: a prompt shows a window of lines, and rows are found by their keys.
"""

import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain, cycle
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
import uvloop

from service.conversation.dialogue import Utterance
from service.sessions.database import open_database
from service.sessions.migrate import migrate
from service.sessions.store import SessionStore
from tests.bench.client import Client, request
from tests.bench.load import Sample, closed_loop
from tests.bench.machine import REPOSITORY, describe
from tests.bench.measuring import Percentiles, percentiles_ms, stage_percentiles_ms
from tests.bench.passes import WARM_UP
from tests.bench.processes import HOST, service
from tests.bench.setup import Setup
from tests.bench.table import markdown

_TURNS = 5  # of each dialogue that only lies there
_WRITERS = 64
_GOES_ON = 120  # turns of a dialogue whose length is measured: several moves of the window
_RESUMED = 300  # stored dialogues that speak again
_LABEL_SPACE = "meld"
_PREDICTION = {"emotion": {"label_space": _LABEL_SPACE, "label": "joy", "probabilities": {}}}


@dataclass(frozen=True, slots=True)
class Growth:
    """Turns of one kind, one at a time.

    Attributes:
        stored: dialogues that lay in the database before.
        before: utterances of the dialogue before the turns that were measured.
        turn_ms: from asking to answering.
        store_ms: of that, reading the dialogue's end and writing the turn.
    """

    what: str
    stored: int
    before: int
    turn_ms: Percentiles
    store_ms: Percentiles


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is raised: stored dialogues, and lengths of a dialogue."""

    stored: Sequence[int]
    lengths: Sequence[int]


async def fill(
    url: str, dialogues: Sequence[tuple[str, int]], utterances: Iterator[Utterance]
) -> None:
    """Store dialogues of so many turns, as the service stores them, labelled without a model."""
    database = open_database(url)
    await migrate(database)
    store = SessionStore(database)
    waiting = iter(dialogues)

    async def writer() -> None:
        for name, turns in waiting:
            for _ in range(turns):
                utterance = next(utterances)
                tail = await store.tail("default", name, f"{utterance.speaker}", 0)
                await store.append(
                    tail, text=utterance.text, label_space=_LABEL_SPACE, prediction=_PREDICTION
                )

    async with asyncio.TaskGroup() as group:
        for _ in range(_WRITERS):
            group.create_task(writer())
    await store.close()
    await database.close()


async def measure(setup: Setup, sizes: Sizes, demonstrations: bool) -> list[Growth]:
    """Raise the number of stored dialogues, then the length of one."""
    file = Path(setup.folder) / "grown.sqlite3"
    passes = setup.passes
    utterances = cycle([u for dialogue in passes(WARM_UP) for u in dialogue.utterances])
    lengths = {length: f"long-{length}" for length in sizes.lengths}
    rows: list[Growth] = []
    stored = 0
    for number, wanted in enumerate(sizes.stored):
        last = wanted == sizes.stored[-1]
        print(f"{wanted:,} stored dialogues", file=sys.stderr, flush=True)
        new = [(f"stored-{n}", _TURNS) for n in range(stored, wanted)]
        await fill(f"sqlite:///{file}", new, utterances)
        if last:
            long = [(name, length) for length, name in lengths.items()]
            await fill(f"sqlite:///{file}", long, utterances)
        stored = wanted
        resumed = random.Random(number).sample(range(stored), min(_RESUMED, stored))
        with service(setup, demonstrations, file) as server:
            async with Client(HOST, server.port) as client:

                def requests_of(pass_number: int, prefix: str) -> list[list[bytes]]:
                    return [
                        turn_requests(f"{prefix}-{dialogue.id}", dialogue.utterances)
                        for dialogue in passes(pass_number)
                    ]

                await closed_loop(client.send, requests_of(WARM_UP, f"warm-up-{number}"), 1)
                conversations = closed_loop(client.send, requests_of(2 * number, "new"), 1)
                rows.append(_growth("conversations", stored, 0, await conversations))
                later = list(chain.from_iterable(d.utterances for d in passes(2 * number + 1)))
                again = [
                    turn_requests(f"stored-{n}", [utterance])
                    for n, utterance in zip(resumed, cycle(later), strict=False)
                ]
                load = closed_loop(client.send, again, 1)
                rows.append(_growth("stored, not cached", stored, _TURNS, await load))
                if last:
                    for length, name in lengths.items():
                        print(f"{length:,} utterances", file=sys.stderr, flush=True)
                        on = [next(utterances) for _ in range(_GOES_ON)]
                        load = closed_loop(client.send, [turn_requests(name, on)], 1)
                        rows.append(_growth("continued", stored, length, await load))
    return rows


def turn_requests(dialogue_id: str, utterances: Sequence[Utterance]) -> list[bytes]:
    """The requests that say a dialogue's utterances, one by one."""
    return [
        request(
            "POST",
            f"/dialogues/{quote(dialogue_id, safe='')}/utterances",
            json.dumps(
                {"speaker": utterance.speaker, "text": utterance.text, "label_space": _LABEL_SPACE}
            ).encode(),
        )
        for utterance in utterances
    ]


def _growth(what: str, stored: int, before: int, samples: Sequence[Sample]) -> Growth:
    refused = [sample.answer for sample in samples if not sample.answer.ok]
    if refused:
        raise ValueError(f"{what}: not answered: {refused[0]}")
    stages = stage_percentiles_ms(sample.answer.header("server-timing") for sample in samples)
    turns = percentiles_ms(sample.latency_s for sample in samples)
    return Growth(what, stored, before, turns, stages["store"])


def table(growths: Sequence[Growth]) -> str:
    """One line a kind of turns, in Markdown."""
    heads = ("turns", "stored dialogues", "utterances before", "turn ms p50/95", "store ms p50/95")
    rows = (
        (
            *(one.what, f"{one.stored:,}", f"{one.before:,}"),
            *(f"{ms.p50:.2f}/{ms.p95:.2f}" for ms in (one.turn_ms, one.store_ms)),
        )
        for one in growths
    )
    return markdown(heads, rows)


def main(
    stored: Annotated[str, typer.Option(help="Dialogues, by commas.")] = "1,1000,100000",
    lengths: Annotated[str, typer.Option(help="Utterances, by commas.")] = "10,100,1000,10000",
    demonstrations: Annotated[bool, typer.Option(help="Show demonstrations.")] = False,
    bundle: Annotated[Path, typer.Option(help="Folder of the model bundle.")] = (
        REPOSITORY / "build" / "bundles" / "erc-mini"
    ),
    out: Annotated[Path | None, typer.Option(help="File of the results, as JSON.")] = None,
) -> None:
    """Measure turns of the running service while its database grows."""
    described: dict[str, Any] = describe() | {"date": datetime.now(UTC).date().isoformat()}
    sizes = Sizes(
        [int(word) for word in stored.split(",")], [int(word) for word in lengths.split(",")]
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        setup = Setup(bundle=str(bundle.resolve()), folder=folder)
        measured = uvloop.run(measure(setup, sizes, demonstrations))
    print(table(measured))
    if out is not None:
        rows = [asdict(one) for one in measured]
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(described | {"turns": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
