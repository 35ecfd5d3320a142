"""The dependence of answers on the order in which prompts list the labels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from service.conversation.labels import LabelSpace
from training.evaluation.predictions import Predictions


def other_orders(label_space: LabelSpace, count: int, seed: int = 0) -> list[LabelSpace]:
    """The label space with its labels in random orders, never the published one."""
    rng = np.random.default_rng(seed)
    places = np.arange(len(label_space.labels))
    orders: list[LabelSpace] = []
    while len(orders) < count:
        order = rng.permutation(places)
        if (order != places).any():
            orders.append(replace(label_space, labels=tuple(label_space.labels[n] for n in order)))
    return orders


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


def with_other_orders(published: Predictions, others: Sequence[Predictions]) -> Predictions:
    """The answers in the published order of the prompt's labels, with those in other orders.

    Args:
        others: of the same utterances; the labels' probabilities in the published order.
    """
    if not others:
        return published
    rows = zip(*(other.answers for other in others), strict=True)
    return replace(
        published,
        answers=tuple(
            replace(answer, reordered=tuple(other.probabilities for other in row))
            for answer, row in zip(published.answers, rows, strict=True)
        ),
    )


def flip_rate(predictions: Predictions) -> float:
    """How often another order of the prompt's labels changes the answer, 0 to 1.

    Args:
        predictions: asked in one other order at least.
    """
    published = predictions.probabilities.argmax(1)[:, np.newaxis]
    return float((predictions.reordered.argmax(2) != published).mean())
