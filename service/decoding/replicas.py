"""The servers of a remote engine, and which of them reads a prompt.

A dialogue stays with its server, whose prefix cache has its beginning: rendezvous hashing sends it
to the server that ranks highest for it, so that a server that goes moves only its own dialogues and
one that comes takes an equal share from each. A server with far more to do than the others passes
on what exceeds the bound (Mirrokni et al., "Consistent Hashing with Bounded Loads", 2018): reading
a prompt anew costs less than waiting for the others' turn.
"""

import asyncio
import hashlib
import logging
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from service.decoding.server import ModelServer, Outcome, ServerFailed
from service.decoding.watched import WatchedEngine

log = logging.getLogger(__name__)

# A server has at most this many times the mean of open reads. Below the second number it never
# passes any on: the few reads of one batch step cost a server less than a dialogue read anew.
_MOST_OF_MEAN = 1.5
_ALWAYS_TAKEN = 32

# Failures in a row, other than of connecting, that put a server aside.
_MOST_FAILURES = 3


@dataclass(slots=True, eq=False)
class Replica:
    """One server.

    Attributes:
        watched: reads from it unless it hangs or is set aside, and probes whether it is back.
        open_reads: how many prompts it is reading for this process.
        failures: those since it last answered, each of a read that began after the one before it
            had failed: those that were under way together count once.
        outcomes: how many reads came to what.
    """

    server: ModelServer
    watched: WatchedEngine
    open_reads: int = 0
    failures: int = 0
    _failed_at: float = -math.inf
    outcomes: dict[str, int] = field(default_factory=lambda: {str(each): 0 for each in Outcome})

    @property
    def name(self) -> str:
        """Host and port."""
        return self.server.name

    @property
    def is_available(self) -> bool:
        return self.watched.trouble is None

    def answered(self) -> None:
        """Count an answer."""
        self.outcomes[Outcome.ANSWERED] += 1
        self.failures = 0

    def failed(self, error: ServerFailed, began: float) -> None:
        """Count a failure, and set the server aside if it is one too many.

        Args:
            began: the event loop's time when the read began.
        """
        self.outcomes[error.outcome] += 1
        if error.outcome is Outcome.REFUSED:
            log.error("%s", error)
            return
        if began >= self._failed_at:
            self.failures += 1
            self._failed_at = asyncio.get_running_loop().time()
        if error.is_for_every_read or self.failures >= _MOST_FAILURES:
            self.watched.set_aside(str(error))


def choose(
    replicas: Iterable[Replica], session: str | None, excluded: Collection[Replica] = ()
) -> Replica | None:
    """The server for the next read; None if there is none.

    Args:
        session: what identifies the read's dialogue; None: any server will do.
    """
    available = [each for each in replicas if each.is_available and each not in excluded]
    if not available:
        return None
    if session is None:
        return min(available, key=lambda replica: replica.open_reads)
    mean = (sum(replica.open_reads for replica in available) + 1) / len(available)
    most = max(_ALWAYS_TAKEN, math.ceil(_MOST_OF_MEAN * mean))
    # The least busy one is below the mean, so it is always among them.
    free = (replica for replica in available if replica.open_reads < most)
    return max(free, key=lambda replica: _rank(session, replica.server.target))


def _rank(session: str, target: str) -> bytes:
    return hashlib.blake2b(f"{session} {target}".encode(), digest_size=8).digest()
