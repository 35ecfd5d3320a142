"""Stages of a response and their times, reported to a listener.

A room marks a stage with `with stage(Stage.ENCODE):`, independent of any listener. A request
listens with `with listening(...)`, for itself and for the tasks that it starts. If the request is
traced, a stage is a span too.
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
    """The stages of one utterance, as named in metrics, spans and the `Server-Timing` header."""

    ADMIT = "admit"  # waiting for the dialogue's previous turn, and for a place
    STORE = "store"  # reading the dialogue's end, and writing the turn
    ENCODE = "encode"  # the text's vector, including the wait for its batch
    RETRIEVE = "retrieve"  # the nearest demonstrations
    RENDER = "render"  # prompt and tokens
    QUEUE = "queue"  # waiting in the engine's queue
    DECODE = "decode"  # the labels' probabilities; its span contains that of the queue


Listener = Callable[[Stage, float], None]
"""Called with a stage and its seconds when the stage ends, even when it fails."""

_listener: ContextVar[Listener | None] = ContextVar("_listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Report the stages inside the block to a listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class stage:  # noqa: N801, it reads as a statement
    """Times the block that it opens, and reports to the current listener."""

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
        """Attribute the first `seconds` of this stage to another one, which is reported too."""
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
