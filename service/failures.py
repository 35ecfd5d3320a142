"""Causes of failures for the log: kinds and messages, without secrets."""

import logging
import re
from collections.abc import Iterable, Iterator
from itertools import islice

from pydantic import ValidationError

_LONGEST = 300  # characters of a message
_MOST = 4  # errors of a chain

# Messages repeat the address that was asked and, now and then, what was sent along.
_SECRETS = (
    (re.compile(r"(?<=://)[^/@\s]+@"), "***@"),
    (
        re.compile(
            r"(?i)\b(password|passwd|pwd|secret|token|api[-_ ]?key|authorization)"
            r"(['\"]?\s*[=:]\s*['\"]?)(?:bearer\s+)?[^\s'\",;&]+"
        ),
        r"\1\2***",
    ),
    (re.compile(r"\berc_[\w-]+"), "***"),
)


# Classes of SQLSTATE whose messages may repeat values: data exceptions, broken constraints, errors
# of triggers.
_WITH_VALUES = ("22", "23", "P0")


def cause_of(error: BaseException) -> str:
    """The kinds and messages of an error and of what brought it about, on one line.

    For errors that come straight from a library. Of a message the first line alone, up to 300
    characters: client libraries put the values that they were given, which may be what people say,
    on lines of their own. Passwords and keys are left out.
    """
    return _on_one_line(_told(each, first_line(each)) for each in _chain(error))


def cause_of_ours(error: BaseException) -> str:
    """What one of our errors was raised from, outermost first; empty where it was not.

    Whatever that is: a message is told of the kinds alone that cannot repeat what people say.
    """
    return _on_one_line(_told(each, words_of(each)) for each in islice(_chain(error), 1, None))


def words_of(error: BaseException) -> str:
    """An outside error's own message, where it cannot hold what people say; else empty."""
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        return "" if sqlstate.startswith(_WITH_VALUES) else first_line(error)
    if isinstance(error, OSError):
        return getattr(error, "verify_message", "") or error.strerror or _of_several(error)
    # SQLite's, whose messages have names of tables alone.
    return first_line(error) if getattr(error, "sqlite_errorname", None) else ""


def log_cause(log: logging.Logger, what: str, error: BaseException) -> None:
    """Log, as a warning, why something failed: "WHAT: KIND: MESSAGE"."""
    log.warning("%s: %s", what, cause_of(error))


class Failures:
    """The failures of one part, logged without a flood: each kind once, until the part works."""

    def __init__(self, log: logging.Logger, part: str) -> None:
        """Begin with a part that works.

        Args:
            part: as in "PART fails: ...".
        """
        self._log = log
        self._part = part
        self._kinds: set[type[BaseException]] = set()

    def failed(self, error: BaseException) -> None:
        """Log why, unless it has failed in this way since it worked last."""
        if type(error) not in self._kinds:
            self._kinds.add(type(error))
            log_cause(self._log, f"{self._part} fails", error)

    def worked(self) -> None:
        self._kinds.clear()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _on_one_line(told: Iterable[str]) -> str:
    return ", from ".join(dict.fromkeys(islice(told, _MOST)))


def _told(error: BaseException, words: str) -> str:
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _of_several(error: OSError) -> str:
    # Of a host with several addresses, asyncio raises one error; asyncpg has one for TLS.
    return first_line(error) if type(error) in (OSError, ConnectionError) else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, as `plain_line` has it."""
    return plain_line(str(error))


def plain_line(message: str) -> str:
    """The first line of a message, up to 300 characters, without passwords and keys."""
    first, *others = message.strip().splitlines() or [""]
    # gRPC's first line is but a heading.
    heads = first.endswith(":") and others
    line = (f"{first} {others[0].strip()}" if heads else first)[:_LONGEST]
    for secret, instead in _SECRETS:
        line = secret.sub(instead, line)
    return line


def fields_at_fault(error: ValidationError, whole: str) -> str:
    """What is wrong with a described thing: "FIELD: MESSAGE", one after the other.

    Args:
        whole: what to call it where no field is at fault.
    """
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or whole}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors()
    )
