"""Causes of failures for the log: error types and messages, without secrets."""

import logging
import re
from collections.abc import Iterable, Iterator
from itertools import islice

from pydantic import ValidationError

_LONGEST = 300  # characters of a message
_MOST = 4  # errors of a chain

# Messages repeat the address of a server and sometimes what was sent.
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


# SQLSTATE classes whose messages may repeat values: data exceptions, constraint violations, errors
# raised by triggers.
_WITH_VALUES = ("22", "23", "P0")


def cause_of(error: BaseException) -> str:
    """The types and messages of an error and its causes, on one line.

    For errors straight from a library. Only the first line of a message, up to 300 characters:
    client libraries put the values that they were given, which may be utterances, on further lines.
    Passwords and keys are masked.
    """
    return _on_one_line(_summary(member, first_line(member)) for member in _chain(error))


def cause_of_ours(error: BaseException) -> str:
    """The causes of one of our errors, outermost first; empty if there is none.

    For any cause: a message is included only if its error type cannot repeat utterances.
    """
    return _on_one_line(
        _summary(member, words_of(member)) for member in islice(_chain(error), 1, None)
    )


def words_of(error: BaseException) -> str:
    """A foreign error's message, if it cannot hold utterances; else empty."""
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        return "" if sqlstate.startswith(_WITH_VALUES) else first_line(error)
    if isinstance(error, OSError):
        return getattr(error, "verify_message", "") or error.strerror or _of_several(error)
    # SQLite's messages contain only names of tables and columns.
    return first_line(error) if getattr(error, "sqlite_errorname", None) else ""


def log_cause(log: logging.Logger, what: str, error: BaseException) -> None:
    """Log the cause of a failure as a warning: "WHAT: TYPE: MESSAGE"."""
    log.warning("%s: %s", what, cause_of(error))


class Failures:
    """Logs the failures of one part: each error type once, until the part works again."""

    def __init__(self, log: logging.Logger, part: str) -> None:
        """Begin with a part that works.

        Args:
            part: as in "PART fails: ...".
        """
        self._log = log
        self._part = part
        self._kinds: set[type[BaseException]] = set()

    def failed(self, error: BaseException) -> None:
        """Log the cause, unless an error of this type was logged since the part last worked."""
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


def _on_one_line(descriptions: Iterable[str]) -> str:
    return ", from ".join(dict.fromkeys(islice(descriptions, _MOST)))


def _summary(error: BaseException, words: str) -> str:
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _of_several(error: OSError) -> str:
    # asyncio raises one error for all addresses of a host; asyncpg has one for TLS.
    return first_line(error) if type(error) in (OSError, ConnectionError) else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; see `plain_line`."""
    return plain_line(str(error))


def plain_line(message: str) -> str:
    """The first line of a message, up to 300 characters, without passwords and keys."""
    first, *others = message.strip().splitlines() or [""]
    # gRPC's first line is only a heading.
    is_heading = first.endswith(":") and others
    line = (f"{first} {others[0].strip()}" if is_heading else first)[:_LONGEST]
    for secret, replacement in _SECRETS:
        line = secret.sub(replacement, line)
    return line


def fields_at_fault(error: ValidationError, whole: str) -> str:
    """The errors of a validation: "FIELD: MESSAGE", separated by semicolons.

    Args:
        whole: the name to use if an error belongs to no field.
    """
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or whole}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors()
    )
