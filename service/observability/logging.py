"""Logging, without the words of users and without keys.

Our own messages name no such thing. An error that nobody foresaw may hold anything in its message,
so at the usual levels the log has its type and where it was raised, and no more; at `debug`, which
is for development, it has all of it.
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
# Libraries speak of every request and download at info.
_LOUD = ("httpx", "sentence_transformers", "alembic", "transformers", "vllm")


class LineFormatter(logging.Formatter):
    """Keeps messages on one line: a client's words in them cannot look like another one's.

    Nor do they move a terminal's cursor. What errors hold has lines of its own.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return _on_one_line(super().formatMessage(record))


class DiscreetFormatter(LineFormatter):
    """Leaves out what errors say; their types, their causes and the lines of code are enough."""

    def formatException(  # noqa: N802
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        return "" if ei[1] is None else "".join(_told(ei[1], set())).rstrip("\n")

    def format(self, record: logging.LogRecord) -> str:
        # Another handler may have left the whole error there.
        record.exc_text = None
        told = super().format(record)
        record.exc_text = None
        return told


class JsonFormatter(logging.Formatter):
    """A line of JSON for each record, with the ids of the request that it is about.

    Members: `time` (RFC 3339, UTC), `level`, `logger`, `message`, where there is one `error`, and
    what `Correlation.ids` has.
    """

    def __init__(self, correlation: Correlation, errors: logging.Formatter) -> None:
        """Format records.

        Args:
            errors: says of errors what is to be said.
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
    """Log to a stream; at `debug`, errors say all they have to say.

    Args:
        correlation: where lines are to be JSON.
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
    """Have the loop log errors that nobody waits for as errors: its own words repeat theirs."""
    loop.set_exception_handler(_log_lost_error)


def _log_lost_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.error("nobody waited for this: %s", context["message"], exc_info=context.get("exception"))


def _told(error: BaseException, seen: set[int]) -> Iterator[str]:
    if id(error) in seen:
        return
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _told(before, seen)
        yield "\nthen, because of it or meanwhile:\n\n"
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):\n"
        yield from StackSummary.extract(walk_tb(error.__traceback__)).format()
    kind = type(error)
    yield f"{kind.__module__}.{kind.__qualname__}\n"
    if isinstance(error, BaseExceptionGroup):
        yield from chain.from_iterable(_told(each, seen) for each in error.exceptions)
