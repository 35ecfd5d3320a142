"""The end of a stored dialogue, what the next turn needs of it, and a cache of ends.

The ends of the dialogues written to last are cached, so that their next turn reads nothing. A
cached end may be stale, because another process may have written since. An append finds that out,
so a stale end costs a turn taken twice and never a wrong line.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import monotonic

from service.conversation.dialogue import Line
from service.sessions.database import Database
from service.sessions.queries import END
from service.sessions.records import Name

# Speakers of one dialogue whose numbers are kept in memory.
SPEAKERS = 32


@dataclass(frozen=True, slots=True)
class Tail:
    """The part of a dialogue that labelling and storing its next utterance needs, as of one moment.

    Attributes:
        tenant: the owner of the dialogue.
        generation: tells the dialogue from others under the same id, before or after it.
        speaker: who speaks next.
        speaker_index: the speaker's number, by first appearance in the whole dialogue.
        length: the number of utterances so far, which is the next one's index; 0 for a dialogue
            that does not exist.
        first: the index of the first of `lines`; `length` when there are none.
        lines: the last utterances, oldest first; without descriptions, which prompts show of the
            target alone.
    """

    tenant: str
    dialogue_id: str
    generation: int
    speaker: str
    speaker_index: int
    length: int
    first: int
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class DialogueEnd:
    """A dialogue's end, as of one moment.

    Attributes:
        generation: a number that no other dialogue under the same id has, before or after.
        length: the number of utterances; 0 for a dialogue that does not exist.
        lines: the last utterances, oldest first: `most_lines`, or all there are.
        speakers: the numbers of those who spoke last, by name; `SPEAKERS` at most.
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
        """The speaker's number by first appearance; None: only the database knows it."""
        known = self.speakers.get(speaker)
        if known is None and len(self.speakers) == self.speaker_count:
            return self.speaker_count
        return known

    def grown(self, speaker: str, line: Line) -> "DialogueEnd":
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

    def tail(self, tenant: str, dialogue_id: str, speaker: str, number: int, lines: int) -> Tail:
        """The tail of `lines` utterances for the speaker of this number."""
        shown = self.lines[max(0, len(self.lines) - lines) :]
        return Tail(
            tenant=tenant,
            dialogue_id=dialogue_id,
            generation=self.generation,
            speaker=speaker,
            speaker_index=number,
            length=self.length,
            first=self.length - len(shown),
            lines=shown,
        )


async def read_end(
    database: Database, tenant: str, dialogue_id: str, speaker: str, lines: int
) -> tuple[DialogueEnd, int]:
    """The end of a dialogue with its last `lines` utterances, and the coming speaker's number.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    values = {"tenant": tenant, "dialogue_id": dialogue_id, "speaker": speaker, "lines": lines}
    rows = await database.fetch(END, values)
    if not rows:
        return DialogueEnd(secrets.randbits(63), 0, (), lines, {}, 0), 0
    dialogue = rows[0]
    # A dialogue without lines to show is one row whose line is null.
    shown = [row for row in rows if row.text is not None]
    speakers: dict[str, int] = {row.speaker: row.speaker_index for row in shown}
    number: int | None = dialogue.known_index
    if number is not None:
        speakers[speaker] = number
    end = DialogueEnd(
        generation=dialogue.generation,
        length=dialogue.length,
        lines=tuple(Line(row.speaker_index, row.text) for row in shown),
        most_lines=lines,
        speakers=speakers,
        speaker_count=dialogue.speaker_count,
    )
    return end, end.speaker_count if number is None else number


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
