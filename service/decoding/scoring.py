"""Label scoring: from the first token of each verbalizer, or from all of them.

Where the first tokens of a label space's verbalizers differ, one forward pass gives every label's
probability. Where two begin alike, each whole verbalizer is scored, its closing token included, so
that "sad" is not favoured over "sadly": log p(v) = sum over j of log p(v_j | prompt, v_1 .. v_j-1).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.conversation.labels import LabelSpace
from service.conversation.prompts import Template
from service.conversation.prompts.tokens import Encode, verbalizer_ids
from service.decoding.engine import LabelEngine, Priority

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LabelReading:
    """Which tokens to ask for, and how they make up each label.

    Attributes:
        questions: for each continuation of the prompt, () first, the tokens to ask for behind it.
        paths: for each label, the (continuation, token) pairs whose log-probabilities add up.
    """

    questions: Mapping[Tokens, Tokens]
    paths: tuple[tuple[tuple[Tokens, int], ...], ...]

    @property
    def extra_tokens(self) -> int:
        """The longest continuation that is appended to a prompt."""
        return max(map(len, self.questions))


@dataclass(frozen=True, slots=True)
class LabelScores:
    """What was found of every label.

    Attributes:
        log_probabilities: in the label space's order.
        cached_tokens: of the prompt.
        queue_s: seconds that the prompt waited for its pass, or the one of its continuations that
            waited longest.
    """

    log_probabilities: tuple[float, ...]
    cached_tokens: int
    queue_s: float = 0.0


def plan_reading(
    label_space: LabelSpace, template: Template, encode: Encode, end: int | None
) -> LabelReading:
    """Decide how to read a label space under a tokenizer.

    Args:
        end: the token that closes a target in training (EOS), if the tokenizer has one.

    Raises:
        ValueError: two verbalizers cannot be told apart under this tokenizer.
    """
    verbalizers = [verbalizer_ids(template, v, encode) for v in label_space.verbalizers]
    if len({tokens[0] for tokens in verbalizers}) == len(verbalizers):
        wanted = [tokens[:1] for tokens in verbalizers]
    else:
        wanted = [tokens if end is None else (*tokens, end) for tokens in verbalizers]
        for n, tokens in enumerate(wanted):
            for m, other in enumerate(wanted):
                if n != m and other[: len(tokens)] == tokens:
                    raise ValueError(
                        f"{label_space.name}: the tokens of {label_space.verbalizers[n]!r} begin "
                        f"those of {label_space.verbalizers[m]!r}"
                    )
    paths = tuple(
        tuple((tokens[:position], token) for position, token in enumerate(tokens))
        for tokens in wanted
    )
    questions: dict[Tokens, dict[int, None]] = {(): {}}
    for path in paths:
        for continuation, token in path:
            questions.setdefault(continuation, {})[token] = None
    return LabelReading({c: tuple(tokens) for c, tokens in questions.items()}, paths)


async def score_labels(
    engine: LabelEngine,
    reading: LabelReading,
    prompt: Sequence[int],
    priority: Priority,
    *,
    salt: str | None = None,
) -> LabelScores:
    """Score every label after a prompt of token ids.

    Args:
        salt: as `LabelEngine.read` takes it.

    Raises:
        EngineUnavailable: the engine does not answer.
    """
    if len(reading.questions) == 1:
        # The common case, without a task for it.
        first = await engine.read(prompt, reading.questions[()], priority, salt=salt)
        return LabelScores(first.log_probabilities, first.cached_tokens, first.queue_s)
    readings = await asyncio.gather(
        *(
            engine.read((*prompt, *continuation), tokens, priority, salt=salt)
            for continuation, tokens in reading.questions.items()
        )
    )
    found = {
        (continuation, token): score
        for (continuation, tokens), answer in zip(reading.questions.items(), readings, strict=True)
        for token, score in zip(tokens, answer.log_probabilities, strict=True)
    }
    return LabelScores(
        tuple(sum(found[step] for step in path) for path in reading.paths),
        readings[0].cached_tokens,
        max(each.queue_s for each in readings),
    )
