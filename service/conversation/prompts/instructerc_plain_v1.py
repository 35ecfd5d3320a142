"""The baseline prompt published with InstructERC, byte for byte (arXiv 2309.11911).

The published code's "plain" prompt: the utterance and the labels, without role, speaker or history.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.conversation.dialogue import Demonstration, HistoryWindow, Line
from service.conversation.labels import LabelSpace
from service.conversation.prompts.protocol import Prompt


@dataclass(frozen=True, slots=True)
class InstructercPlainV1:
    """The main task alone, one segment."""

    id: str = "instructerc-plain-v1"
    window: HistoryWindow = HistoryWindow(0, 0)
    keeps_integer_speakers: bool = False
    takes_demonstrations: bool = False
    cue: str = ":"
    before_verbalizer: str | None = None

    def main(
        self,
        label_space: LabelSpace,
        history: Sequence[Line],
        target: Line,
        demonstrations: Sequence[Demonstration] = (),
    ) -> Prompt:
        """Which emotion does the target carry? Only its text is shown.

        Raises:
            ValueError: there are demonstrations; the published prompt has no place for them.
        """
        if demonstrations:
            raise ValueError(f"{self.id} has no place for demonstrations")
        listed = ", ".join(label_space.verbalizers)
        return Prompt((f"Please select the emotional label of <{target.text}> from <{listed}>:",))
