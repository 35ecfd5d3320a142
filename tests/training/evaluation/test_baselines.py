"""Baselines on dialogues whose right answers are plain to see."""

from collections.abc import Mapping

import pytest

from service.conversation.labels import LabelSpace
from tests.training.plain_words import dialogue, encode
from training.evaluation.baselines import baselines, out_of_fold
from training.evaluation.predictions import Predictions
from training.mixture.classifier import Split, encode_split


@pytest.fixture(scope="module")
def meld(spaces: Mapping[str, LabelSpace]) -> LabelSpace:
    return spaces["meld"]


@pytest.fixture(scope="module")
def train(meld: LabelSpace) -> Split:
    """A word tells the label; "well" is what the word before it is."""
    spoken = []
    for number in range(30):
        spoken.append(
            dialogue(f"t{number}", ("hurrah", "joy"), ("well", "joy"), ("well well", "joy"))
        )
        spoken.append(dialogue(f"s{number}", ("alas", "sadness"), ("well", "sadness")))
        spoken.append(dialogue(f"a{number}", ("grr " * (1 + number % 3), "anger")))
    return encode_split(spoken, meld, encode)


@pytest.fixture(scope="module")
def answers(train: Split, meld: LabelSpace) -> dict[str, Predictions]:
    unseen = [
        dialogue("d0", ("hurrah", "joy"), ("alas", None)),
        dialogue("d1", ("grr", "anger")),
        dialogue("d2", ("alas", "sadness"), ("well", "sadness")),
    ]
    return dict(baselines(train, encode_split(unseen, meld, encode), meld, seeds=[7]))


def predicted_labels(predictions: Predictions) -> list[str]:
    return [predictions.labels[place] for place in predictions.probabilities.argmax(1)]


def test_every_baseline_answers_every_labelled_utterance(answers: dict[str, Predictions]) -> None:
    """In the corpus's order, under the corpus's ids, with distributions."""
    assert list(answers) == [
        *("majority", "copied", "neighbours", "classifier"),
        *("emotion-neighbours@7", "speaker-states@7", "turn-graph@7"),
    ]
    for predictions in answers.values():
        assert [(a.dialogue, a.index, a.utterance) for a in predictions.answers] == [
            *(("d0", 0, "d0-hurrah"), ("d1", 0, "d1-grr")),
            *(("d2", 0, "d2-alas"), ("d2", 1, "d2-well")),
        ]
        assert predictions.probabilities.sum(1) == pytest.approx(1.0)
        assert (predictions.probabilities >= 0).all()


def test_majority_is_the_label_that_training_has_most_of(answers: dict[str, Predictions]) -> None:
    """90 of 180; one of each of the seven labels is added to what was counted."""
    majority = answers["majority"]

    assert predicted_labels(majority) == ["joy"] * 4
    assert majority.probabilities[0, majority.labels.index("joy")] == pytest.approx(91 / 187)


def test_copied_label_is_the_nearest_utterances(answers: dict[str, Predictions]) -> None:
    """Words tell it, save for "well", which has more than one label."""
    assert predicted_labels(answers["copied"])[:3] == ["joy", "anger", "sadness"]


def test_neighbours_vote(answers: dict[str, Predictions]) -> None:
    """Several of them, so the words are told too."""
    assert predicted_labels(answers["neighbours"])[:3] == ["joy", "anger", "sadness"]


def test_classifier_sees_what_was_said_before(answers: dict[str, Predictions]) -> None:
    """By itself "well" is joy twice as often."""
    assert predicted_labels(answers["classifier"]) == ["joy", "anger", "sadness", "sadness"]


@pytest.mark.parametrize("name", ["speaker-states@7", "turn-graph@7"])
def test_those_that_learn_by_seed_see_what_was_said_before(
    name: str, answers: dict[str, Predictions]
) -> None:
    """As the classifier does."""
    assert predicted_labels(answers[name]) == ["joy", "anger", "sadness", "sadness"]


def test_training_split_is_answered_out_of_fold(train: Split, meld: LabelSpace) -> None:
    """Under the ids of the training split: what models would be taught by."""
    ((name, predictions),) = out_of_fold(train, meld, ["turn-graph"], [7])

    assert name == "turn-graph@7"
    assert [(a.dialogue, a.index, a.utterance) for a in predictions.answers] == [*train.places]
    assert predictions.gold.tolist() == train.gold.tolist()
    assert (predictions.probabilities.argmax(1) == train.gold).mean() > 0.9
