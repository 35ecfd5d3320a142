"""Logging, without users' texts and without keys.

Our own messages contain neither. An unexpected error may hold anything in its message, so the log
has only its type and traceback; at `debug`, which is for development, it has the message too.
"""

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from traceback import StackSummary, walk_tb
from types import TracebackType
from typing import Any, TextIO

from service.observability.correlation import Correlation

log = logging.getLogger(__name__)

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# Libraries that log every request and download at info.
_LOUD = ("httpx", "sentence_transformers", "alembic", "transformers", "vllm")


class LineFormatter(logging.Formatter):
    """Keeps messages on one line, so that a client's text in one cannot forge another.

    Nor can it move a terminal's cursor. Errors are on lines of their own.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return _on_one_line(super().formatMessage(record))


class DiscreetFormatter(LineFormatter):
    """Omits the messages of errors; keeps their types, causes and tracebacks."""

    def formatException(  # noqa: N802
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        return "" if ei[1] is None else "".join(_trace_of(ei[1], set())).rstrip("\n")

    def format(self, record: logging.LogRecord) -> str:
        # Another handler may have cached the whole error there.
        record.exc_text = None
        text = super().format(record)
        record.exc_text = None
        return text


class JsonFormatter(logging.Formatter):
    """A line of JSON for each record, with the ids of its request.

    Members: `time` (RFC 3339, UTC), `level`, `logger`, `message`, `error` if there is one, and
    those of `Correlation.ids`.
    """

    def __init__(self, correlation: Correlation, errors: logging.Formatter) -> None:
        """Format records.

        Args:
            errors: formats errors.
        """
        super().__init__()
        self._correlation = correlation
        self._errors = errors

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._correlation.ids(),
        }
        if record.exc_info:
            line["error"] = self._errors.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_to(stream: TextIO, level: str, correlation: Correlation | None = None) -> logging.Handler:
    """Log to a stream; at `debug`, errors include their messages.

    Args:
        correlation: makes lines JSON, with its ids; None: lines are text.
    """
    text = (LineFormatter if level == "debug" else DiscreetFormatter)(_FORMAT)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(text if correlation is None else JsonFormatter(correlation, text))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    return handler


def _on_one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def log_lost_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Log errors that nobody awaits by type and traceback: the loop's own handler quotes them."""
    loop.set_exception_handler(_log_lost_error)


def _log_lost_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.error(
        "unhandled exception in a background task: %s",
        context["message"],
        exc_info=context.get("exception"),
    )


def _trace_of(error: BaseException, seen: set[int]) -> Iterator[str]:
    if id(error) in seen:
        return
    seen.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _trace_of(cause, seen)
        yield "\nthen, as its consequence or while it was handled:\n\n"
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):\n"
        yield from StackSummary.extract(walk_tb(error.__traceback__)).format()
    kind = type(error)
    yield f"{kind.__module__}.{kind.__qualname__}\n"
    if isinstance(error, BaseExceptionGroup):
        yield from chain.from_iterable(_trace_of(member, seen) for member in error.exceptions)
