"""Label scoring: from the first token of each verbalizer, or from all of them.

If the first tokens of a label space's verbalizers differ, one forward pass gives every label's
probability. If two begin alike, each whole verbalizer is scored, its closing token included, so
that "sad" is not favoured over "sadly": log p(v) = sum over j of log p(v_j | prompt, v_1 .. v_j-1).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.conversation.labels import LabelSpace
from service.conversation.prompts import Template
from service.conversation.prompts.tokens import Encode, verbalizer_ids
from service.decoding.engine import LabelEngine
from service.priority import Priority

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LabelReading:
    """The tokens to score, and how they make up each label.

    Attributes:
        questions: for each continuation of the prompt, () first, the tokens to score after it.
        paths: for each label, the (continuation, token) pairs whose log-probabilities add up.
    """

    questions: Mapping[Tokens, Tokens]
    paths: tuple[tuple[tuple[Tokens, int], ...], ...]

    @property
    def extra_tokens(self) -> int:
        """The length of the longest continuation of a prompt, in tokens."""
        return max(map(len, self.questions))

    def prompt_limit(self, max_tokens: int) -> int:
        """The most tokens of a prompt: the engine needs room for one more after it.

        Args:
            max_tokens: the most that the engine reads at once.
        """
        return max_tokens - 1 - self.extra_tokens


@dataclass(frozen=True, slots=True)
class LabelScores:
    """The scores of all labels after a prompt.

    Attributes:
        log_probabilities: in the label space's order.
        cached_tokens: the number of the prompt's tokens that came from the prefix cache; None:
            unknown.
        queue_s: seconds that the prompt waited for its forward pass, or the longest wait of its
            continuations; None: unknown.
    """

    log_probabilities: tuple[float, ...]
    cached_tokens: int | None
    queue_s: float | None = 0.0


def plan_reading(
    label_space: LabelSpace, template: Template, encode: Encode, end: int | None
) -> LabelReading:
    """Decide how to read a label space under a tokenizer.

    Args:
        end: the token that closes a target in training (EOS), if the tokenizer has one.

    Raises:
        ValueError: the tokenizer does not distinguish two verbalizers.
    """
    verbalizers = [verbalizer_ids(template, v, encode) for v in label_space.verbalizers]
    if len({tokens[0] for tokens in verbalizers}) == len(verbalizers):
        targets = [tokens[:1] for tokens in verbalizers]
    else:
        targets = [tokens if end is None else (*tokens, end) for tokens in verbalizers]
        for n, tokens in enumerate(targets):
            for m, other in enumerate(targets):
                if n != m and other[: len(tokens)] == tokens:
                    raise ValueError(
                        f"{label_space.name}: the tokens of {label_space.verbalizers[m]!r} begin "
                        f"with all those of {label_space.verbalizers[n]!r}"
                    )
    paths = tuple(
        tuple((tokens[:position], token) for position, token in enumerate(tokens))
        for tokens in targets
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
        salt: as in `LabelEngine.read`.

    Raises:
        EngineUnavailable: the engine does not answer.
    """
    if len(reading.questions) == 1:
        # The common case needs no task.
        first = await engine.read(prompt, reading.questions[()], priority, salt=salt)
        return LabelScores(first.log_probabilities, first.cached_tokens, first.queue_s)
    readings = await asyncio.gather(
        *(
            engine.read((*prompt, *continuation), tokens, priority, salt=salt)
            for continuation, tokens in reading.questions.items()
        )
    )
    log_probabilities = {
        (continuation, token): log_probability
        for (continuation, tokens), continuation_reading in zip(
            reading.questions.items(), readings, strict=True
        )
        for token, log_probability in zip(
            tokens, continuation_reading.log_probabilities, strict=True
        )
    }
    waits = [r.queue_s for r in readings if r.queue_s is not None]
    return LabelScores(
        tuple(sum(log_probabilities[step] for step in path) for path in reading.paths),
        readings[0].cached_tokens,
        max(waits, default=None),
    )
