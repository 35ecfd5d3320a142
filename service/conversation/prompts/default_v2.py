"""The default prompt, `v2` in bundles: InstructERC's parts, ordered so that turns share a prefix.

Static text first, then the history, append-only, its last line the target; then the parts that
differ from turn to turn: the demonstrations and a short cue. The next turn's prompt begins with
everything up to this turn's target. If demonstrations stand between the target and the cue, the
target is repeated: a small model otherwise predicts the emotion of the nearest line.

The prediction task begins as the main task does, so a forecast reuses the cached prefix of the
previous turn, and the next turn reuses the forecast's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.conversation.dialogue import Demonstration, HistoryWindow, Line
from service.conversation.labels import LabelSpace
from service.conversation.prompts.protocol import Prompt, beginning, one_line


@dataclass(frozen=True, slots=True)
class V2:
    """Segments: the static text, each line, any demonstrations and the target again, the cue.

    In the prediction and the speaker task a question about the next line replaces the
    demonstrations.
    """

    id: str = "v2"
    window: HistoryWindow = HistoryWindow(12, 20)
    keeps_integer_speakers: bool = False
    takes_demonstrations: bool = True
    cue: str = "\nEmotion:"
    speaker_cue: str = "\nSpeaker:"
    before_verbalizer: str | None = " "

    def main(
        self,
        label_space: LabelSpace,
        history: Sequence[Line],
        target: Line,
        demonstrations: Sequence[Demonstration] = (),
    ) -> Prompt:
        """Which emotion does the target, the last line, carry?"""
        return Prompt(
            (
                *self.shared(label_space, (*history, target)),
                *self.tail(label_space, target, demonstrations),
            )
        )

    def prediction(self, label_space: LabelSpace, history: Sequence[Line], target: Line) -> Prompt:
        """Which emotion will the next line carry? Only the target's speaker is shown.

        Raises:
            ValueError: there is no history.
        """
        if not history:
            raise ValueError("the task prediction needs at least one line of history")
        question = f"\nNext line, by {target.speaker}, not yet spoken. Predict its emotion."
        return Prompt((*self.shared(label_space, history), question, self.cue))

    def speaker(self, label_space: LabelSpace, history: Sequence[Line], target: Line) -> Prompt:
        """Who says the next line? Its speaker's number in the history, or a new one."""
        question = f"\nNext line: {one_line(target.text)}"
        return Prompt((*self.shared(label_space, history), question, self.speaker_cue))

    def speaker_answer(self, target: Line) -> str:
        return str(target.speaker)

    def shared(self, label_space: LabelSpace, lines: Sequence[Line]) -> tuple[str, ...]:
        """The prefix that the prompts of later turns share."""
        static = (
            "You are an expert in the analysis of sentiment and emotion. "
            "Say which emotion the last line of the conversation carries. "
            f"Labels: {', '.join(label_space.verbalizers)}.\nConversation:"
        )
        return (static, *map(_line, lines))

    def tail(
        self, label_space: LabelSpace, target: Line, demonstrations: Sequence[Demonstration]
    ) -> tuple[str, ...]:
        """The part of this turn alone, from after the target to the cue."""
        if not demonstrations:
            return (self.cue,)
        shown = "".join(
            f"\n{beginning(d.text)} = {label_space.label(d.label).verbalizer}"
            for d in demonstrations
        )
        return (f"\nExamples:{shown}\nLast line:", _line(target), self.cue)


def _line(line: Line) -> str:
    return f"\n{line.speaker}: {one_line(line.text)}"
