"""Where the time of an answer goes: named stages, told to whoever listens.

A room marks what it does with `with stage(Stage.ENCODE):`; it does not know who wants to know. A
request listens with `with listening(...)`, for itself and for the tasks that it starts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from time import perf_counter
from types import TracebackType
from typing import Self


class Stage(StrEnum):
    """The stages of one utterance; metrics and the `Server-Timing` header name them so."""

    ADMIT = "admit"  # the wait for the dialogue's turn before, and for a place
    STORE = "store"  # reading the dialogue's end, and writing the turn
    ENCODE = "encode"  # the text's vector, the wait for its batch included
    RETRIEVE = "retrieve"  # the nearest demonstrations
    RENDER = "render"  # prompt and tokens
    QUEUE = "queue"  # the wait in the engine's queue
    DECODE = "decode"  # the label's probabilities


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

    __slots__ = ("_name", "_start")

    def __init__(self, name: Stage) -> None:
        self._name = name

    def __enter__(self) -> Self:
        self._start = perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        listener = _listener.get()
        if listener is not None:
            listener(self._name, perf_counter() - self._start)
