"""The trace of the current request.

Rooms open spans in it and propagate it to the services that they call, independent of the tracing
library. For a request without a trace it costs a look at a context variable.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

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
