"""DialogueLLM's prompt: the utterance, a description of the scene, and a short history, no names.

Instruction, video description, context and input are those of the paper (arXiv 2310.11374v4,
sections 3.2 and 3.3); the headings, the opening line and the sample are those of its code of
2024-01-18, without the twelve spaces of its own indentation. That code shows no video description;
here it stands where the paper's record has it. Labels are the label space's, and the instruction
names only the sections that the prompt has.

Text is shown on one line, and headings follow an empty one, so no utterance can pass for a heading.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.conversation.dialogue import Demonstration, HistoryWindow, Line
from service.conversation.labels import LabelSpace
from service.conversation.prompts.protocol import Prompt, beginning, one_line

_OPENING = (
    "Please perform Classification task. Given the sentence, assign the correct label. "
    "Return label only without any other text."
)


@dataclass(frozen=True, slots=True)
class DialoguellmV1:
    """Segments: the instruction, each section that is not empty, the input, the cue.

    By default two lines of history, which the paper finds best (section 4.9); its results use one.
    """

    id: str = "dialoguellm-v1"
    window: HistoryWindow = HistoryWindow(2, 2)
    keeps_integer_speakers: bool = False
    takes_demonstrations: bool = True
    cue: str = "\n\n### Response:\n"
    before_verbalizer: str | None = ""

    def main(
        self,
        label_space: LabelSpace,
        history: Sequence[Line],
        target: Line,
        demonstrations: Sequence[Demonstration] = (),
    ) -> Prompt:
        """Which emotion does the target carry? Only the target's scene is described."""
        sample = "\n".join(
            f"Input: {beginning(d.text)}\nOutput: {label_space.label(d.label).verbalizer}"
            for d in demonstrations
        )
        description = one_line(target.description or "")
        context = "\n".join(filter(None, (one_line(line.text) for line in history)))
        optional = {"Video Description": description, "Context": context}
        sections = {"Sample": sample, **optional, "Input": one_line(target.text)}
        return Prompt(
            (
                _instruction(label_space, [name for name, text in optional.items() if text]),
                *(
                    f"\n\n### {name}:\n{text}"
                    for name, text in sections.items()
                    if text or name == "Input"
                ),
                self.cue,
            )
        )


def _instruction(label_space: LabelSpace, shown: Sequence[str]) -> str:
    request = "detect the emotion of the input"
    opening = f"Given the {' and '.join(shown)}, {request}" if shown else request.capitalize()
    listed = ", ".join(f"'{verbalizer}'" for verbalizer in label_space.verbalizers)
    return f"{_OPENING}\n### Instruction:\n{opening}, and assign an accuracy label from [{listed}]."
