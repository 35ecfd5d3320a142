"""Scores an archive on Ray with an engine of no weights, whose answers depend on prompts alone.

`python -m tests.cluster.stand_in IN OUT PIDS` leaves in the folder PIDS a file for each actor that
starts, named by its process.
"""

import asyncio
import hashlib
import math
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from service.cluster import scoring
from service.cluster.actors import Task
from service.cluster.scoring import ArchiveJob, score_archive
from service.conversation.derived import load_derived_label_spaces
from service.conversation.labels import load_label_spaces
from service.decoding.engine import Reading, ServerState
from service.decoding.tokenizer import Tokenizer, load_tokenizer
from service.dialogue_files import Reading as FileReading
from service.errors import EngineUnavailable
from service.priority import Priority
from service.recognition.opening import open_recognizer
from service.recognition_parts import load_served_bundle
from service.settings import Settings
from tests.broken_folders import BUNDLE, ROOT

KILLS = "xylophone"  # the actor that reads it
UNREADABLE = "trombone"


class StandIn:
    """A label engine that makes probabilities of a hash of the prompt.

    Attributes:
        pause_s: what a prompt takes.
    """

    def __init__(self, tokenizer: Tokenizer, pause_s: float) -> None:
        self._kills, self._unreadable = map(tokenizer.encode, (KILLS, UNREADABLE))
        self.pause_s = pause_s
        self.lost: str | None = None
        self.silent_s = 0.0
        self.servers: Sequence[ServerState] = ()

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        await asyncio.sleep(self.pause_s)
        if _holds(prompt, self._kills):
            os.kill(os.getpid(), signal.SIGKILL)
        if _holds(prompt, self._unreadable):
            raise EngineUnavailable("the label engine failed")
        digest = hashlib.sha256(repr((tuple(prompt), tuple(candidates))).encode()).digest()
        weights = [1 + digest[n % 32] for n in range(len(candidates))]
        return Reading(tuple(math.log(w / (2 * sum(weights))) for w in weights), 0)

    async def check(self) -> None: ...

    async def close(self) -> None: ...

    async def watch(self, on_loss: Callable[[str], None]) -> None: ...


def _holds(prompt: Sequence[int], word: Sequence[int]) -> bool:
    return any(
        tuple(prompt[n : n + len(word)]) == tuple(word) for n in range(len(prompt) - len(word) + 1)
    )


@asynccontextmanager
async def open_stand_in(
    settings: Settings,
    index: Path,
    demonstrations: bool,
    *,
    pids: Path | None = None,
    pause_s: float = 0.0,
) -> AsyncIterator[Any]:
    """The parts of a recognizer with the stand-in, and without demonstrations."""
    spaces = settings.data / "label_spaces"
    label_spaces = load_label_spaces(spaces)
    bundle, tokenizer = load_served_bundle(settings, label_spaces), load_tokenizer(settings.bundle)
    engine = StandIn(tokenizer, pause_s)
    if pids is not None:
        (pids / str(os.getpid())).touch()
    yield SimpleNamespace(
        bundle=bundle,
        label_spaces=label_spaces,
        derived=load_derived_label_spaces(spaces, label_spaces),
        engine=engine,
        recognizer=open_recognizer(bundle, tokenizer, label_spaces, engine, None),
    )


def settings_of_stand_in() -> Settings:
    return Settings.model_construct(bundle=BUNDLE, data=ROOT / "data")


def main() -> None:
    """Score with two actors, in parts of a few dialogues."""
    source, target, pids = sys.argv[1:4]
    pause_s = float(os.environ.get("STAND_IN_PAUSE_S", "0.05"))
    scoring._BLOCK_DIALOGUES = int(os.environ.get("STAND_IN_BLOCK", "16"))
    task = Task(
        settings_of_stand_in(),
        "meld",
        True,
        opener=partial(open_stand_in, pids=Path(pids), pause_s=pause_s),
    )
    job = ArchiveJob(source, target, FileReading(), None, False, "local", 2)
    print(score_archive(task, job, partial(print, flush=True)))


if __name__ == "__main__":
    # By its name, under which actors find it.
    from tests.cluster import stand_in

    stand_in.main()
