"""The trace of the current request.

Rooms open spans in it and hand it on to what they call; they do not know what traces are made with.
Most requests have none, and then it costs a look at a context variable.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

NoteBeginning = Callable[[str, float], None]
"""Says of a span that its first seconds were spent on something with a name of its own."""

OpenSpan = Callable[[str], AbstractContextManager[NoteBeginning]]
"""Opens a span for the time of a block."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One request's trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: of the request's own span, 16 hexadecimal digits.
        headers: of a request to another service, with the span that is open as the parent (W3C
            Trace Context).
        open_span: None where the trace is not recorded, only handed on.
    """

    trace_id: str
    span_id: str
    headers: Callable[[], Mapping[str, str]]
    open_span: OpenSpan | None

    @property
    def exemplar(self) -> dict[str, str] | None:
        """What leads from a number to the trace, if there is one to look at."""
        return None if self.open_span is None else {"trace_id": self.trace_id}


_trace: ContextVar[Trace | None] = ContextVar("_trace", default=None)


def current_trace() -> Trace | None:
    """The trace of what is done here; None: it is not traced."""
    return _trace.get()


def current_exemplar() -> dict[str, str] | None:
    """What leads from a number that is observed here to a trace; None: nothing does."""
    trace = _trace.get()
    return None if trace is None else trace.exemplar


@contextmanager
def traced(trace: Trace) -> Iterator[None]:
    """Have what is done in the block, and in the tasks that it starts, belong to a trace."""
    token = _trace.set(trace)
    try:
        yield
    finally:
        _trace.reset(token)
