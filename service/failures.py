"""Why a part fails, for the log: what kind of error it was and what that said, without secrets."""

import logging
import re
from collections.abc import Iterator
from itertools import islice

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


def cause_of(error: BaseException) -> str:
    """The kinds and messages of an error and of what brought it about, on one line.

    Of a message the first line alone, up to 300 characters: client libraries put the values that
    they were given, which may be what people say, on lines of their own. Passwords and keys are
    left out.
    """
    return ", from ".join(dict.fromkeys(map(_told, islice(_chain(error), _MOST))))


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


def _told(error: BaseException) -> str:
    first, *others = str(error).strip().splitlines() or [""]
    # gRPC's first line is but a heading.
    heads = first.endswith(":") and others
    message = (f"{first} {others[0].strip()}" if heads else first)[:_LONGEST]
    for secret, instead in _SECRETS:
        message = secret.sub(instead, message)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
