"""The trace of the current request, and the stages of its response.

Packages mark a stage with `with stage(Stage.ENCODE):`, open spans in the trace and propagate it to
the services that they call, independent of the tracing library and of any listener. A request
listens with `with listening(...)`, for itself and for the tasks that it starts. If the request is
traced, a stage is a span too; for one without a trace it costs a look at a context variable.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter
from types import TracebackType
from typing import Self

NoteBeginning = Callable[[str, float], None]
"""Records that a span's first seconds belong to a stage of another name."""

OpenSpan = Callable[[str], AbstractContextManager[NoteBeginning]]
"""Opens a span for the duration of a block."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One request's trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: of the request's own span, 16 hexadecimal digits.
        headers: returns headers for a request to another service, with the current span as parent
            (W3C Trace Context).
        open_span: None if the trace is not recorded, only propagated.
    """

    trace_id: str
    span_id: str
    headers: Callable[[], Mapping[str, str]]
    open_span: OpenSpan | None

    @property
    def exemplar(self) -> dict[str, str] | None:
        """The exemplar that links a metric to the trace; None if the trace is not recorded."""
        return None if self.open_span is None else {"trace_id": self.trace_id}


_trace: ContextVar[Trace | None] = ContextVar("_trace", default=None)


def current_trace() -> Trace | None:
    """The trace of the current request; None if it is not traced."""
    return _trace.get()


def current_exemplar() -> dict[str, str] | None:
    """The exemplar that links a metric to the current trace; None if there is none."""
    trace = _trace.get()
    return None if trace is None else trace.exemplar


@contextmanager
def traced(trace: Trace) -> Iterator[None]:
    """Make the trace current in the block, and in the tasks that it starts."""
    token = _trace.set(trace)
    try:
        yield
    finally:
        _trace.reset(token)


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
