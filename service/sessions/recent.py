"""The ends of the dialogues that spoke last, in memory, so that their next turn reads nothing.

What is remembered may be stale, because another process may have written since. Whoever appends
finds that out, so it costs a turn taken twice and never a wrong line.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import monotonic

from service.conversation.dialogue import Line

# About as many bytes: 60 MB hold the ends of some 10,000 dialogues of short lines.
ROOM = 60_000_000
# Nothing is remembered longer: text that another process has erased goes too.
IDLE_S = 600.0
# How long nothing is remembered once another process was seen to write.
DISTRUST_S = 60.0
# Names remembered of one dialogue.
SPEAKERS = 32

_BYTES_OF_AN_END = 1_000
_BYTES_OF_A_LINE = 150


Name = tuple[str, str]
"""A dialogue's tenant and its id."""


@dataclass(frozen=True, slots=True)
class End:
    """A dialogue's end, as of one moment.

    Attributes:
        generation: a number that no other dialogue under the same id has, before or after.
        length: the number of utterances; 0 for a dialogue that does not exist.
        lines: the last utterances, oldest first: `most_lines`, or all there are.
        speakers: the numbers of those who spoke last, by name.
        speaker_count: the number of different speakers in the whole dialogue.
    """

    generation: int
    length: int
    lines: tuple[Line, ...]
    most_lines: int
    speakers: Mapping[str, int]
    speaker_count: int

    def shows(self, lines: int) -> bool:
        """Whether the last `lines` utterances are among `lines`, or all there are."""
        return lines <= self.most_lines or self.length == len(self.lines)

    def number_of(self, speaker: str) -> int | None:
        """The speaker's number by first appearance; None: somebody forgotten or somebody new."""
        known = self.speakers.get(speaker)
        if known is None and len(self.speakers) == self.speaker_count:
            return self.speaker_count
        return known

    def grown(self, speaker: str, line: Line) -> "End":
        """The end after one more utterance."""
        others = [known for known in self.speakers.items() if known[0] != speaker]
        speakers = dict([*others[max(0, len(others) - SPEAKERS + 1) :], (speaker, line.speaker)])
        lines = (*self.lines, line)
        return replace(
            self,
            length=self.length + 1,
            lines=lines[max(0, len(lines) - self.most_lines) :],
            speakers=speakers,
            speaker_count=max(self.speaker_count, line.speaker + 1),
        )


class RecentDialogues:
    """The ends of the dialogues that spoke last, by tenant and id; those idle longest go first.

    An end is taken out for the time of an append and kept again after it: what fails leaves
    nothing behind.
    """

    def __init__(self, room: int = ROOM) -> None:
        self.erasures = 0
        self._room = room
        self._ends: dict[Name, tuple[End, int, float]] = {}  # with its size and when it was kept
        self._size = 0
        self._trusted_from = 0.0

    def find(self, name: Name) -> End | None:
        """The dialogue's end; None: ask the database."""
        found = self._ends.get(name)
        return found[0] if found is not None else None

    def take(self, name: Name, generation: int, length: int) -> End | None:
        """Keep the dialogue's end no longer; None if it was another one, or none."""
        end = self.find(name)
        self._drop(name)
        if end is None or (end.generation, end.length) != (generation, length):
            return None
        return end

    def keep(self, name: Name, end: End, erasures: int) -> None:
        """Remember a dialogue's end.

        Args:
            erasures: what `erasures` was before the database was asked. A dialogue that was erased
                meanwhile may be this one.
        """
        now = monotonic()
        self._drop(name)
        if erasures == self.erasures and now >= self._trusted_from:
            size = _BYTES_OF_AN_END + sum(_BYTES_OF_A_LINE + len(line.text) for line in end.lines)
            self._ends[name] = (end, size, now)
            self._size += size
        self._make_room(now)

    def forget_idle(self) -> None:
        """Forget what has been remembered long enough, though nothing new is."""
        self._make_room(monotonic())

    def _make_room(self, now: float) -> None:
        while self._ends:
            oldest, (_, _, kept_at) = next(iter(self._ends.items()))
            if self._size <= self._room and kept_at > now - IDLE_S:
                break
            self._drop(oldest)

    def erase(self, name: Name) -> None:
        """Forget a dialogue that was erased."""
        self.erasures += 1
        self._drop(name)

    def distrust(self) -> None:
        """Forget everything and remember nothing for a while: another process writes here too.

        Where processes take the turns of a dialogue by chance, most of what each remembers is
        stale, and every stale end costs a recognition in vain.
        """
        self._ends.clear()
        self._size = 0
        self._trusted_from = monotonic() + DISTRUST_S

    def _drop(self, name: Name) -> None:
        _, size, _ = self._ends.pop(name, (None, 0, 0.0))
        self._size -= size
