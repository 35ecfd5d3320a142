"""What every prompt template offers, and external text in a line-based prompt.

`default_v2` is the template that the shipped models read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from service.conversation.dialogue import Demonstration, HistoryWindow, Line
from service.conversation.labels import LabelSpace

Task = Literal["main", "prediction"]
"""The emotion of an utterance, or that of the next one."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt in segments, each tokenized on its own.

    No token crosses a segment boundary, so prompts that begin with the same segments begin with the
    same tokens, whatever the tokenizer, and a segment's tokens can be cached.
    """

    segments: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(self.segments)


class Template(Protocol):
    """Renders the main task, which every bundle is trained on."""

    @property
    def id(self) -> str:
        """The template's name in bundles and requests."""
        ...

    @property
    def window(self) -> HistoryWindow:
        """The history window, unless a bundle sets another."""
        ...

    @property
    def keeps_integer_speakers(self) -> bool:
        """Whether a speaker called "0" to "18" keeps that number as index."""
        ...

    @property
    def takes_demonstrations(self) -> bool: ...

    @property
    def cue(self) -> str:
        """The last segment, or the end of it, which the verbalizer follows."""
        ...

    @property
    def before_verbalizer(self) -> str | None:
        """The text between cue and verbalizer; None: the verbalizer is tokenized by itself."""
        ...

    def main(
        self,
        label_space: LabelSpace,
        history: Sequence[Line],
        target: Line,
        demonstrations: Sequence[Demonstration] = (),
    ) -> Prompt:
        """Which emotion does the target carry?"""
        ...


@runtime_checkable
class PredictionTemplate(Template, Protocol):
    """Renders the prediction task too, which a bundle may be trained on."""

    def prediction(self, label_space: LabelSpace, history: Sequence[Line], target: Line) -> Prompt:
        """Which emotion will the target carry? Only its speaker is known.

        Args:
            history: at least one line.
            target: its text is not shown.
        """
        ...


@runtime_checkable
class SpeakerTemplate(Template, Protocol):
    """Renders InstructERC's speaker identification too, which only training uses."""

    @property
    def speaker_cue(self) -> str:
        """As `cue`, which `speaker_answer` follows."""
        ...

    def speaker(self, label_space: LabelSpace, history: Sequence[Line], target: Line) -> Prompt:
        """Who says the target? Its speaker is not shown."""
        ...

    def speaker_answer(self, target: Line) -> str: ...


# A demonstration helps by its similarity, not by its length.
_DEMONSTRATION_CHARACTERS = 160


def one_line(text: str) -> str:
    """Fold each run of white space into a space: a line break must not look like a new line."""
    return " ".join(text.split())


def beginning(demonstration: str) -> str:
    """The beginning of a demonstration's text that a prompt shows, on one line."""
    return one_line(demonstration)[:_DEMONSTRATION_CHARACTERS]
