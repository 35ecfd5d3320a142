"""The end of a stored dialogue, and what the next turn needs of it."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace

from service.conversation.dialogue import Line
from service.sessions.database import Database
from service.sessions.queries import END

# Speakers of one dialogue whose numbers are kept in memory.
SPEAKERS = 32


@dataclass(frozen=True, slots=True)
class Tail:
    """What is needed to label and store a dialogue's next utterance, as of one moment.

    Attributes:
        tenant: whose dialogue it is.
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
