"""The `Prefer` header (RFC 7240): asynchronous jobs and a client's own deadline."""

import re
from collections.abc import Iterable

_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,9})\"?", re.IGNORECASE)


def prefers_async(fields: Iterable[str]) -> bool:
    """Whether `Prefer` headers ask for a response before the work is done."""
    preferences = (part.split(";")[0] for field in fields for part in field.split(","))
    return any(name.strip().lower() == "respond-async" for name in preferences)


def preferred_wait(fields: Iterable[str]) -> int | None:
    """The seconds of the first `wait=` among the preferences of `Prefer` headers."""
    for field in fields:
        for preference in field.split(","):
            if wait := _WAIT.fullmatch(preference.split(";")[0].strip()):
                return int(wait[1])
    return None
