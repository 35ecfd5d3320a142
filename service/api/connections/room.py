"""The number of open connections, and which one is closed to make room."""

import logging
import resource
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

# Files that the process opens beside connections: databases, engine, refused connections.
_OTHER_FILES = 512

Connection = TypeVar("Connection")


def most_connections(wanted: int) -> int:
    """How many connections may be open: each is an open file, and shells often allow only 1,024.

    Raises the process's own limit as far as it can.
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
        "the limit of connections is %d instead of %d: the process may open only %d files "
        "(ulimit -Hn)",
        most, wanted, allowed,
    )  # fmt: skip
    return most


class Waiting(Generic[Connection]):
    """Connections that wait for their clients, the longest waiting first."""

    def __init__(self) -> None:
        self._since: dict[Connection, float] = {}

    def add(self, connection: Connection, now: float) -> None:
        """Note that a connection waits from now on."""
        self.remove(connection)
        self._since[connection] = now

    def remove(self, connection: Connection) -> None:
        """Note that a connection no longer waits."""
        self._since.pop(connection, None)

    def longest(self, before: float) -> Connection | None:
        """The connection that has waited longest, if since before `before`."""
        connection = next(iter(self._since), None)
        if connection is None or self._since[connection] > before:
            return None
        return connection
