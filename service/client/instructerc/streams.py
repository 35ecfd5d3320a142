"""What streams bring, piece by piece: events, results, corrections. Reads no socket.

Each class holds how far a stream has come, so that a new connection goes on there.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from instructerc import calls, models
from instructerc.errors import ClientError, UnexpectedAnswer, Unreachable
from instructerc.retries import Retries

# The most of a stream that is held while its next separator is awaited, in bytes.
_LONGEST = 64 * 2**20

T = TypeVar("T")

Event = models.PredictionEvent | models.CorrectionEvent | models.ErasedEvent
Result = models.ScoredLine | models.RefusedLine

_EVENTS: dict[str, type[Event]] = {
    "prediction": models.PredictionEvent,
    "correction": models.CorrectionEvent,
    "erased": models.ErasedEvent,
}


@dataclass(frozen=True, slots=True)
class Followed:
    """An event of a dialogue.

    Attributes:
        id: as `after` of a later `follow_dialogue`, it continues behind this event.
        data: an utterance with its prediction, a correction or its removal, or the erasure.
    """

    id: str
    data: Event


@dataclass(slots=True)
class _Blocks:
    """Splits bytes at a separator.

    Not by `splitlines`: JSON may contain other line separators.
    """

    separator: bytes
    _rest: bytes = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The blocks that are complete.

        Raises:
            UnexpectedAnswer: a block is too long.
        """
        *blocks, self._rest = (self._rest + chunk).split(self.separator)
        if len(self._rest) > _LONGEST:
            raise UnexpectedAnswer(f"more than {_LONGEST} bytes without {self.separator!r}")
        return blocks


@dataclass(slots=True)
class _Attempts:
    """Counts failures in a row, of a stream that goes on after them."""

    retries: Retries
    failed: int = 0

    def wait_s(self, error: ClientError) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            ClientError: the stream has failed for good.
        """
        self.failed += 1
        wait_s = self.retries.wait_s(self.failed, error)
        if wait_s is None:
            raise error
        return wait_s


@dataclass(slots=True)
class Following:
    """A dialogue that is followed, over any number of connections."""

    dialogue_id: str
    last_event_id: str | None
    attempts: _Attempts
    erased: bool = False
    _blocks: _Blocks = field(default_factory=lambda: _Blocks(b"\n\n"))

    def call(self) -> calls.Call[None]:
        """The next connection's call."""
        self._blocks = _Blocks(b"\n\n")  # an event that was not whole comes again
        return calls.follow_dialogue(self.dialogue_id, self.last_event_id)

    def feed(self, chunk: bytes) -> Iterator[Followed]:
        """The events that are complete; kinds that are not known are passed over.

        Raises:
            UnexpectedAnswer: an event is not as documented.
        """
        self.attempts.failed = 0
        for block in self._blocks.feed(chunk):
            fields = {
                name: value
                for name, _, value in (line.partition(b": ") for line in block.split(b"\n"))
            }
            identifier, name = fields.get(b"id"), fields.get(b"event", b"").decode()
            if identifier is None:
                continue
            self.last_event_id = identifier.decode()
            if name not in _EVENTS:
                continue
            try:
                data = _EVENTS[name].model_validate_json(fields.get(b"data", b""))
            except ValidationError as error:
                raise UnexpectedAnswer(f"event {self.last_event_id}: {error}") from error
            self.erased = isinstance(data, models.ErasedEvent)
            yield Followed(self.last_event_id, data)

    def wait_s(self, error: ClientError | None) -> float:
        """Seconds to wait before the next connection; `error`: why the last one ended."""
        return self.attempts.wait_s(error or Unreachable("the stream has ended"))


@dataclass(slots=True)
class Portion:
    """Dialogues that are sent together, and which of them have a result.

    The service reads dialogues ahead of their results only so far, so that no more than that is
    sent before results are read.

    Attributes:
        offset: how many dialogues came before.
    """

    dialogues: Sequence[models.DialogueIn]
    label_space: str
    summary: bool
    offset: int
    attempts: _Attempts
    done: int = 0
    _sent: int = 0
    _blocks: _Blocks = field(default_factory=lambda: _Blocks(b"\n"))

    @property
    def is_done(self) -> bool:
        return self.done >= len(self.dialogues)

    def call(self) -> calls.Call[None]:
        """Sends the dialogues that have no result."""
        self._blocks, self._sent = _Blocks(b"\n"), self.done
        lines = [
            dialogue.model_dump_json(exclude_none=True) for dialogue in self.dialogues[self.done :]
        ]
        content = "".join(f"{line}\n" for line in lines).encode()
        return calls.score_lines(content, self.label_space, self.summary)

    def feed(self, chunk: bytes) -> Iterator[Result]:
        """The results that are complete; `line` counts all dialogues, from 1.

        Raises:
            UnexpectedAnswer: a result is not as documented.
        """
        for line in self._blocks.feed(chunk):
            result = _result(line)
            self.done = self._sent + result.line
            self.attempts.failed = 0
            yield result.model_copy(update={"line": self.offset + self.done})

    def wait_s(self, error: ClientError | None) -> float:
        """As of `Following`."""
        return self.attempts.wait_s(error or Unreachable("the answer ended before all results"))


@dataclass(slots=True)
class Portions:
    """Gathers dialogues into portions of at most `most` utterances; one may have more."""

    most: int
    label_space: str
    summary: bool
    retries: Retries
    _gathered: list[models.DialogueIn] = field(default_factory=list)
    _size: int = 0
    _offset: int = 0

    def add(self, dialogue: models.DialogueIn) -> Portion | None:
        """Add a dialogue; return the portion before it if it does not fit into that."""
        size = max(1, len(dialogue.utterances))
        portion = self.rest() if self._size + size > self.most else None
        self._gathered.append(dialogue)
        self._size += size
        return portion

    def rest(self) -> Portion | None:
        """What is gathered; None: nothing."""
        if not self._gathered:
            return None
        attempts = _Attempts(self.retries)
        portion = Portion(self._gathered, self.label_space, self.summary, self._offset, attempts)
        self._offset += len(self._gathered)
        self._gathered, self._size = [], 0
        return portion


@dataclass(slots=True)
class Lines(Generic[T]):
    """Lines of an answer that can be asked for again, over any number of connections.

    Attributes:
        ask: makes the call.
        read: maps a line to its value, or raises `UnexpectedAnswer`.
        name: what tells values apart; the names are held, so that each value comes once, whatever
            changes between two connections.
    """

    ask: Callable[[], calls.Call[None]]
    read: Callable[[bytes], T]
    name: Callable[[T], str | int]
    attempts: _Attempts
    _names: set[str | int] = field(default_factory=set)
    _blocks: _Blocks = field(default_factory=lambda: _Blocks(b"\n"))

    def call(self) -> calls.Call[None]:
        self._blocks = _Blocks(b"\n")
        return self.ask()

    def feed(self, chunk: bytes) -> Iterator[T]:
        """The values that are complete and that no earlier connection brought.

        Raises:
            UnexpectedAnswer: a line is not as documented.
        """
        for line in self._blocks.feed(chunk):
            value = self.read(line)
            name = self.name(value)
            if name not in self._names:
                self._names.add(name)
                self.attempts.failed = 0
                yield value

    def wait_s(self, error: ClientError) -> float:
        return self.attempts.wait_s(error)


def following(dialogue_id: str, after: str | None, retries: Retries) -> Following:
    return Following(dialogue_id, after, _Attempts(retries))


def results(job_id: str, retries: Retries) -> Lines[Result]:
    return Lines(
        partial(calls.read_results, job_id), _result, attrgetter("line"), _Attempts(retries)
    )


def corrections(
    label_space: str, updated_since: datetime | None, retries: Retries
) -> Lines[models.DialogueIn]:
    ask = partial(calls.export_corrections, label_space, updated_since)
    return Lines(ask, _corrected, attrgetter("id"), _Attempts(retries))


def _corrected(line: bytes) -> models.DialogueIn:
    try:
        return models.DialogueIn.model_validate_json(line)
    except ValidationError as error:
        raise UnexpectedAnswer(f"a line of corrections: {error}") from error


def _result(line: bytes) -> Result:
    try:
        value: Any = json.loads(line)
        is_refused = "error" in value
        return (models.RefusedLine if is_refused else models.ScoredLine).model_validate(value)
    except (ValueError, TypeError) as error:  # pydantic's and json's errors are ValueErrors
        raise UnexpectedAnswer(f"a line of results: {error}") from error
