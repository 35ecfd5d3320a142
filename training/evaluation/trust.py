"""The trust in a person's correction for another utterance, fitted on dialogues.

The question is whether an utterance is the corrected one said again. Dialogues say when it is: a
line in its own place, a light paraphrase of it there, half of its words there, and, of eight words
or more, the line in any other place. And when it is not: the next line, any other, the nearest
ones of other dialogues, equal short lines among them. What else might have been said in a line's
place no corpus tells, so other lines of the dialogue are put there.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from service.conversation.dialogue import Dialogue
from service.conversation.neighbours import CONTEXT_LINES, Trust
from service.decoding.bundle import TrustOfCorrections, write_bundle
from service.recognition.retrieval import context_of, contexts_alike
from training.arrays import Floats, Vectors
from training.evaluation.scores import recordable
from training.mixture.pairing import EncodeTexts
from training.mixture.paraphrases import paraphrases

_CORRECTED = 1500  # utterances
_NEAREST = 6
_HALVED = 6  # words that a line has at least of which half are left out
_EVERYWHERE = 8  # words that a line has at least which says the same in any place


class Pair(NamedTuple):
    """An utterance beside a corrected one.

    Attributes:
        words: of the utterance.
        same: whether it is the corrected one said again.
        put_there: whether the utterance was never said in this place.
    """

    similarity: float
    context_similarity: float
    words: int
    same: bool
    put_there: bool = False


@dataclass(frozen=True, slots=True)
class FittedTrust:
    """The fitted trust, and its errors on the pairs of other dialogues.

    Attributes:
        missed: share of the utterances said again that are not taken for it.
        mistaken: share of the others that are, those that were put in a place left out.
    """

    trust: Trust
    missed: float
    mistaken: float


@dataclass(frozen=True, slots=True)
class _Utterances:
    """All utterances of some dialogues, in order.

    Attributes:
        dialogues: the number of each one's dialogue.
        vectors: shape (utterances, dimensions).
        contexts: of each; None where it begins its dialogue.
    """

    texts: tuple[str, ...]
    dialogues: tuple[int, ...]
    vectors: Vectors
    contexts: tuple[Vectors | None, ...]

    def words(self, index: int) -> int:
        return len(self.texts[index].split())

    def alike(self, one: int, other: int) -> float:
        """The similarity of two utterances' contexts."""
        return contexts_alike(self.contexts[one], self.contexts[other])


def fit_trust(dialogues: Sequence[Dialogue], encode: EncodeTexts, seed: int = 0) -> FittedTrust:
    """Fit the odds by logistic regression; every second dialogue is held out to judge it.

    Raises:
        ValueError: there are too few dialogues to learn from.
    """
    if len(dialogues) < 4:
        raise ValueError(f"need at least 4 dialogues to fit trust on, got {len(dialogues)}")
    halves = [pairs(dialogues[start::2], encode, seed) for start in (0, 1)]
    judged = _fitted(halves[0])
    held = halves[1]
    taken = np.asarray([_log_odds(judged, pair) > 0 for pair in held])
    same = np.asarray([pair.same for pair in held])
    if same.all() or not same.any():
        raise ValueError("these dialogues have no two utterances to compare: give more")
    put_there = np.asarray([pair.put_there for pair in held])
    return FittedTrust(
        _fitted(halves[0] + halves[1]),
        missed=float((~taken[same]).mean()),
        mistaken=float(taken[~same & ~put_there].mean()),
    )


def pairs(dialogues: Sequence[Dialogue], encode: EncodeTexts, seed: int) -> list[Pair]:
    """Pairs with utterances that are drawn to be corrected."""
    rng = random.Random(seed)
    utterances = _read(dialogues, encode)
    count = len(utterances.texts)
    drawn = rng.sample(range(count), min(_CORRECTED, count))
    again = [(index, text) for index in drawn for text in _again(utterances.texts[index], rng)]
    drawn_pairs = [
        Pair(
            float(utterances.vectors[index] @ vector),
            utterances.alike(index, index),
            len(text.split()),
            True,
        )
        for (index, text), vector in zip(again, encode([text for _, text in again]), strict=True)
    ]
    for index in drawn:
        drawn_pairs += _elsewhere(utterances, index, rng)
    return drawn_pairs


def _again(text: str, rng: random.Random) -> Iterator[str]:
    yield text
    light = [*paraphrases(text, rng.randrange(_CORRECTED))]
    if light:
        yield rng.choice(light).text
    words = text.split()
    if len(words) >= _HALVED:
        yield " ".join(words[n] for n in sorted(rng.sample(range(len(words)), len(words) // 2)))


def _elsewhere(utterances: _Utterances, index: int, rng: random.Random) -> Iterator[Pair]:
    """An utterance beside others of its dialogue and of other ones."""

    def beside(other: int) -> Pair:
        similarity = float(utterances.vectors[index] @ utterances.vectors[other])
        return Pair(similarity, utterances.alike(index, other), utterances.words(other), False)

    count = len(utterances.texts)
    for other in (index + 1, index + 2, index - 1, index + 4):
        if 0 <= other < count and utterances.dialogues[other] == utterances.dialogues[index]:
            if other == index + 1:
                yield beside(other)
            if utterances.texts[other] != utterances.texts[index]:
                there = utterances.alike(index, index)
                yield beside(other)._replace(context_similarity=there, put_there=True)
    chance = rng.randrange(count)
    if utterances.dialogues[chance] != utterances.dialogues[index]:
        yield beside(chance)
    if utterances.words(index) >= _EVERYWHERE:
        place = rng.randrange(count)
        yield Pair(1.0, utterances.alike(index, place), utterances.words(index), True)
    nearest = np.argsort(-(utterances.vectors @ utterances.vectors[index]))[: _NEAREST + 1]
    for other in nearest.tolist():
        long = utterances.words(other) > _HALVED
        if utterances.dialogues[other] != utterances.dialogues[index] and not (
            long and utterances.texts[other] == utterances.texts[index]
        ):
            yield beside(other)


def _read(dialogues: Sequence[Dialogue], encode: EncodeTexts) -> _Utterances:
    texts = [u.text for dialogue in dialogues for u in dialogue.utterances]
    vectors = encode(texts)
    numbers, contexts = [], []
    row = 0
    for number, dialogue in enumerate(dialogues):
        for index in range(len(dialogue.utterances)):
            before = vectors[row - min(index, CONTEXT_LINES) : row]
            contexts.append(context_of([*before]))
            numbers.append(number)
            row += 1
    return _Utterances(tuple(texts), tuple(numbers), vectors, tuple(contexts))


def _fitted(sample: Sequence[Pair]) -> Trust:
    from sklearn.linear_model import LogisticRegression

    if len({pair.same for pair in sample}) < 2:
        raise ValueError("these dialogues have no two utterances to compare: give more")
    # What `Trust.log_odds` multiplies each coefficient with.
    model = LogisticRegression(C=100.0, max_iter=1000)
    model.fit(
        _features(sample),
        [pair.same for pair in sample],
    )
    line, context, verbatim = (round(float(value), 2) for value in model.coef_[0])
    if line <= 0 or context < 0:
        raise ValueError("these dialogues do not show how far to trust corrections: give more")
    return Trust(round(float(model.intercept_[0]), 2), line, context, max(0.0, verbatim))


def _features(sample: Sequence[Pair]) -> Floats:
    alone = [
        Trust(0.0, 1.0, 0.0, 0.0),
        Trust(0.0, 0.0, 1.0, 0.0),
        Trust(0.0, 0.0, 0.0, 1.0),
    ]
    return np.asarray([[_log_odds(one, pair) for one in alone] for pair in sample])


def _log_odds(trust: Trust, pair: Pair) -> float:
    return trust.log_odds(pair.similarity, pair.context_similarity, pair.words)


def record_trust(trust: Trust, folder: Path) -> None:
    """Write fitted trust into the `bundle.json` of a bundle or an adapter.

    Raises:
        BundleError: no bundle.
        OutputError: its description cannot be written.
    """
    bundle = recordable(folder, ())
    corrections = TrustOfCorrections.model_validate(asdict(trust))
    write_bundle(bundle.model_copy(update={"corrections": corrections}), folder)
