"""Caches the ends of the dialogues written to last, so that their next turn reads nothing.

A cached end may be stale, because another process may have written since. An append finds that out,
so a stale end costs a turn taken twice and never a wrong line.
"""

from time import monotonic

from service.sessions.records import Name
from service.sessions.tails import DialogueEnd

# Bytes, about: they hold the ends of some 10,000 dialogues of short lines.
ROOM = 60_000_000
# No end is cached longer: text that another process has erased goes too.
IDLE_S = 600.0
# How long no end is cached once another process was seen to write.
DISTRUST_S = 60.0

_BYTES_OF_AN_END = 1_000
_BYTES_OF_A_LINE = 150


class TailCache:
    """The ends of dialogues by tenant and id; those idle longest go first.

    An append takes the end out and keeps the new one after it: an append that fails leaves no end
    behind.
    """

    def __init__(self, room: int = ROOM) -> None:
        self.erasures = 0
        self._room = room
        # Each with its size in bytes, and the moment at which it was cached.
        self._ends: dict[Name, tuple[DialogueEnd, int, float]] = {}
        self._size = 0
        self._trusted_from = 0.0

    def find(self, name: Name) -> DialogueEnd | None:
        """The dialogue's end; None: ask the database."""
        cached = self._ends.get(name)
        return None if cached is None else cached[0]

    def take(self, name: Name, generation: int, length: int) -> DialogueEnd | None:
        """Take the dialogue's end out of the cache; None: it was another one, or none."""
        end = self.find(name)
        self._drop(name)
        if end is None or (end.generation, end.length) != (generation, length):
            return None
        return end

    def keep(self, name: Name, end: DialogueEnd, erasures: int) -> None:
        """Cache a dialogue's end.

        Args:
            erasures: what `erasures` was before the end was read or written. A dialogue that was
                erased meanwhile may be this one.
        """
        now = monotonic()
        self._drop(name)
        if erasures == self.erasures and now >= self._trusted_from:
            size = _BYTES_OF_AN_END + sum(_BYTES_OF_A_LINE + len(line.text) for line in end.lines)
            self._ends[name] = (end, size, now)
            self._size += size
        self._make_room(now)

    def forget_idle(self) -> None:
        """Drop the ends that have been cached long enough, although none is added."""
        self._make_room(monotonic())

    def _make_room(self, now: float) -> None:
        while self._ends:
            oldest, (_, _, kept_at) = next(iter(self._ends.items()))
            if self._size <= self._room and kept_at > now - IDLE_S:
                break
            self._drop(oldest)

    def erase(self, name: Name) -> None:
        """Drop the end of a dialogue that was erased."""
        self.erasures += 1
        self._drop(name)

    def distrust(self) -> None:
        """Drop all ends and cache none for a while: another process writes here too.

        Where processes take the turns of a dialogue by chance, most of the ends that each caches
        are stale, and every stale end costs a recognition in vain.
        """
        self._ends.clear()
        self._size = 0
        self._trusted_from = monotonic() + DISTRUST_S

    def _drop(self, name: Name) -> None:
        _, size, _ = self._ends.pop(name, (None, 0, 0.0))
        self._size -= size
