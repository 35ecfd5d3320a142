"""InstructERC's published prompts, byte for byte (arXiv 2309.11911 and its code of 2025-05-25).

Frozen, oddities included: the missing article, the tab before each line, the glued `###` and the
bare speaker number of the prediction task. The published code has no demonstrations: its retrieval
was never released.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.conversation.dialogue import Demonstration, HistoryWindow, Line
from service.conversation.labels import LabelSpace
from service.conversation.prompts.protocol import Prompt

_ROLE = "Now you are expert of sentiment and emotional analysis. "
_OPEN = "The following conversation noted between '### ###' involves several speakers. ### "
_SPEAKERS = {"iemocap": 2, "meld": 9, "emorynlp": 9}


@dataclass(frozen=True, slots=True)
class InstructercV1:
    """The main task and its auxiliary tasks, each one segment."""

    id: str = "instructerc-v1"
    window: HistoryWindow = HistoryWindow(12, 12)
    keeps_integer_speakers: bool = True
    takes_demonstrations: bool = False
    cue: str = ":"
    speaker_cue: str = ":"
    before_verbalizer: str | None = None

    def main(
        self,
        label_space: LabelSpace,
        history: Sequence[Line],
        target: Line,
        demonstrations: Sequence[Demonstration] = (),
    ) -> Prompt:
        """Which emotion does the target carry?

        Raises:
            ValueError: there are demonstrations; the published prompt has no place for them.
        """
        if demonstrations:
            raise ValueError(f"{self.id} has no place for demonstrations")
        target_line = _line(target)
        return Prompt(
            (
                _ROLE
                + _OPEN
                + "".join(map(_line, history))
                + target_line
                + f" ### Please select the emotional label of <{target_line.removeprefix(chr(9))}>"
                + f" from <{_listed(label_space)}>:",
            )
        )

    def prediction(self, label_space: LabelSpace, history: Sequence[Line], target: Line) -> Prompt:
        """Which emotion will the target's speaker express next? The target's text is not shown.

        Without history the prompt is the main task's, as published.
        """
        if not history:
            return self.main(label_space, history, target)
        return Prompt(
            (
                _ROLE
                + _OPEN
                + "".join(map(_line, history))
                + "###Based on the above historical utterances, next utterance is spoken by "
                + f"<{target.speaker}>, please predict the emotion states of <{target.speaker}>"
                + f" from <{_listed(label_space)}>:",
            )
        )

    def speaker(self, label_space: LabelSpace, _: Sequence[Line], target: Line) -> Prompt:
        """Who says the target? As published, without history: only speakers' habits can be learned.

        Raises:
            ValueError: the label space's corpus has no such task, or no such speaker index.
        """
        listed = ", ".join(f"Speaker_{n}" for n in range(_speaker_count(label_space, target)))
        return Prompt(
            (
                _ROLE
                + "Please select the Speaker label of the utterance "
                + f"<Speaker: {target.text}> from <{listed}>:",
            )
        )

    def speaker_answer(self, target: Line) -> str:
        return f"Speaker_{target.speaker}"


def _line(line: Line) -> str:
    return f'\t Speaker_{line.speaker}:"{line.text}"'


def _listed(label_space: LabelSpace) -> str:
    return ", ".join(label_space.verbalizers)


def _speaker_count(label_space: LabelSpace, target: Line) -> int:
    count = _SPEAKERS.get(label_space.name)
    if count is None:
        raise ValueError(f"the task speaker is not defined for label space {label_space.name!r}")
    if target.speaker >= count:
        raise ValueError(
            f"speaker index {target.speaker}: the task speaker of {label_space.name!r} knows "
            f"Speaker_0 to Speaker_{count - 1}"
        )
    return count
