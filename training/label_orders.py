"""How much an answer hangs on the order in which prompts list the labels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from service.conversation.labels import LabelSpace
from training.predictions import Predictions


def other_orders(label_space: LabelSpace, count: int, seed: int = 0) -> list[LabelSpace]:
    """The label space with its labels in random orders, never the published one."""
    rng = np.random.default_rng(seed)
    places = np.arange(len(label_space.labels))
    found: list[LabelSpace] = []
    while len(found) < count:
        order = rng.permutation(places)
        if (order != places).any():
            found.append(replace(label_space, labels=tuple(label_space.labels[n] for n in order)))
    return found


def in_order(predictions: Predictions, labels: tuple[str, ...]) -> Predictions:
    """The same answers, over the same labels in another order."""
    places = [predictions.labels.index(label) for label in labels]
    return replace(
        predictions,
        labels=labels,
        answers=tuple(
            replace(
                answer,
                gold=places.index(answer.gold),
                probabilities=tuple(answer.probabilities[place] for place in places),
            )
            for answer in predictions.answers
        ),
    )


def flip_rate(published: Predictions, reordered: Sequence[Predictions]) -> float:
    """How often another order of the prompt's labels changes the answer, 0 to 1.

    Args:
        published: asked in the published order.
        reordered: asked in others, one at least; the answers themselves are in the published one.
    """
    said = published.probabilities.argmax(1)
    return float(np.mean([(other.probabilities.argmax(1) != said).mean() for other in reordered]))
