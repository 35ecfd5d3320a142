"""The number of open connections, and which one is closed to make room."""

import logging
import resource
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

# What the process opens beside connections: its databases, its engine, what was refused.
_OTHER_FILES = 512

Connection = TypeVar("Connection")


def most_connections(wanted: int) -> int:
    """How many connections there may be: each is an open file, of which a shell often allows 1,024.

    The process's limit is raised as far as that goes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed == needed:
        return wanted
    most = max(allowed - _OTHER_FILES, allowed // 2)
    log.warning(
        "%d connections may be open, not %d: the process may open %d files (ulimit -Hn)",
        most, wanted, allowed,
    )  # fmt: skip
    return most


class Waiting(Generic[Connection]):
    """Connections that wait for their clients, those that have waited longest first."""

    def __init__(self) -> None:
        self._since: dict[Connection, float] = {}

    def add(self, connection: Connection, now: float) -> None:
        """It waits from now on."""
        self.remove(connection)
        self._since[connection] = now

    def remove(self, connection: Connection) -> None:
        """It waits no more, if it did."""
        self._since.pop(connection, None)

    def longest(self, before: float) -> Connection | None:
        """That which has waited longest, if it began before then."""
        connection = next(iter(self._since), None)
        if connection is None or self._since[connection] > before:
            return None
        return connection
