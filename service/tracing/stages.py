"""Stages of a response and their times, reported to a listener.

A room marks what it does with `with stage(Stage.ENCODE):`; it does not know who wants to know. A
request listens with `with listening(...)`, for itself and for the tasks that it starts. Where the
request is traced, a stage is a span too.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from enum import StrEnum
from time import perf_counter
from types import TracebackType
from typing import Self

from service.tracing.context import NoteBeginning, current_trace


class Stage(StrEnum):
    """The stages of one utterance; metrics, spans and the `Server-Timing` header name them so."""

    ADMIT = "admit"  # the wait for the dialogue's turn before, and for a place
    STORE = "store"  # reading the dialogue's end, and writing the turn
    ENCODE = "encode"  # the text's vector, the wait for its batch included
    RETRIEVE = "retrieve"  # the nearest demonstrations
    RENDER = "render"  # prompt and tokens
    QUEUE = "queue"  # the wait in the engine's queue
    DECODE = "decode"  # the label's probabilities; its span holds the one of the queue


Listener = Callable[[Stage, float], None]
"""Told a stage and its seconds when the stage ends, also when it fails."""

_listener: ContextVar[Listener | None] = ContextVar("_listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have a listener told of the stages inside the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class stage:  # noqa: N801, it reads as a statement
    """Times the block it opens, if anybody listens."""

    __slots__ = ("_before", "_name", "_note", "_span", "_start")

    def __init__(self, name: Stage) -> None:
        self._name = name
        self._before: tuple[Stage, float] | None = None
        self._note: NoteBeginning | None = None
        self._span: AbstractContextManager[NoteBeginning] | None = None

    def __enter__(self) -> Self:
        trace = current_trace()
        if trace is not None and trace.open_span is not None:
            self._span = trace.open_span(self._name)
            self._note = self._span.__enter__()
        self._start = perf_counter()
        return self

    def began_with(self, other: Stage, seconds: float) -> None:
        """Say that the first so many seconds of it were another stage's, which has them told."""
        self._before = (other, seconds)
        if self._note is not None:
            self._note(other, seconds)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = perf_counter() - self._start
        if self._span is not None:
            self._span.__exit__(kind, error, trace)
        listener = _listener.get()
        if listener is None:
            return
        if self._before is not None:
            other, before = self._before
            listener(other, before)
            seconds = max(0.0, seconds - before)
        listener(self._name, seconds)
