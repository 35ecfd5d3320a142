"""Tells whether a server reads labels with a bundle's model as the bundle's training meant it.

The bundle keeps how its weights read one prompt (`Fingerprint`). Another model reads the prompt
otherwise, half precision somewhat so, and logits of half precision betray themselves: they lie on
a grid.
"""

import hashlib
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from service.conversation.dialogue import Line
from service.conversation.labels import Label, LabelSpace
from service.conversation.prompts.tokens import fit
from service.decoding.bundle import Bundle, Fingerprint
from service.decoding.scoring import plan_reading
from service.decoding.tokenizer import Tokenizer

# As many of a server's answers show whether they lie on a grid, and lines of `bundle.json`.
_CANDIDATES = 32

_LINES = (
    Line(0, "Did you hear? They gave me the job!"),
    Line(1, "No way, that is wonderful news."),
    Line(0, "I still cannot believe it."),
)

# Root mean square differences of log-probabilities. erc-mini on a CPU: 2e-6 in float32, 0.01 to
# 0.03 in bfloat16, 0.1 in eight bits; a model half-way to its base 1.5 and more, the base 3.
_SAME_MODEL = 0.25
_FLOAT32 = 0.001

# float16 and bfloat16 between 1/2 and 1 are multiples of this, and larger ones of more.
_GRID = 2.0**-11
_ROUNDING = 4e-6  # of log-probabilities that are computed in float32
_ON_GRID = 0.5  # the share of differences; 0.8 to 1 of half precision, 0.02 to 0.05 by chance


@dataclass(frozen=True, slots=True)
class Question:
    """The prompt that a server is known by, as this service renders it.

    Attributes:
        prompt: token ids.
        candidates: token ids: the labels', and some of the prompt's.
    """

    prompt: tuple[int, ...]
    candidates: tuple[int, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(
            array("q", (*self.prompt, -1, *self.candidates)).tobytes()
        ).hexdigest()


def question_of(bundle: Bundle, tokenizer: Tokenizer) -> Question:
    """The question of a bundle, in the first of its label spaces."""
    name, trained = next(iter(bundle.label_spaces.items()))
    labels = [Label(label, word, label) for label, word in trained.verbalizers.items()]
    space = LabelSpace(name, name, tuple(labels))
    template = bundle.prompt_template
    reading = plan_reading(space, template, tokenizer.encode, tokenizer.end)
    prompt = fit(
        template,
        space,
        bundle.history_window,
        _LINES,
        (),
        encode=tokenizer.encode,
        starts=tokenizer.starts,
        begin=tokenizer.begin,
        limit=bundle.max_tokens - 1,
    ).ids
    tokens = dict.fromkeys((*reading.questions[()], *sorted(set(prompt))))
    return Question(tuple(prompt), tuple(tokens)[:_CANDIDATES])


def fingerprint_of(question: Question, log_probabilities: Sequence[float]) -> Fingerprint:
    """What a bundle keeps.

    Args:
        log_probabilities: the candidates', computed in float32.
    """
    return Fingerprint(
        question=question.sha256, log_probabilities=tuple(round(v, 6) for v in log_probabilities)
    )


def is_coarse(log_probabilities: Sequence[float]) -> bool:
    """Whether log-probabilities come from logits of half precision.

    Their differences are those of the logits, so they lie on the grid of the type too.
    """
    finite = [value for value in log_probabilities if math.isfinite(value)]
    steps = [(value - finite[0]) / _GRID for value in finite[1:]]
    on_grid = sum(abs(step - round(step)) < _ROUNDING / _GRID for step in steps)
    return on_grid > _ON_GRID * len(steps)


def difference(fingerprint: Fingerprint, log_probabilities: Sequence[float]) -> float:
    """The root mean square difference of log-probabilities from those of a bundle's weights."""
    pairs = zip(fingerprint.log_probabilities, log_probabilities, strict=True)
    return math.sqrt(sum((a - b) ** 2 for a, b in pairs) / len(log_probabilities))


def is_same_model(difference: float) -> bool:
    """Whether the same weights may differ so much, computed in whatever type; nan is another's."""
    return difference <= _SAME_MODEL


def is_float32(difference: float) -> bool:
    return difference <= _FLOAT32
