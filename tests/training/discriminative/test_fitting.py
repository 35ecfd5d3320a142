"""Both discriminative models, fitted on dialogues whose lines tell nothing by themselves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.discriminative.planted import DIMENSIONS, LABELS, planted, share_right
from training.discriminative.fitting import answered, fitted, out_of_fold_probabilities
from training.discriminative.kinds import KINDS
from training.discriminative.turns import UNLABELLED, Turns


@pytest.fixture(scope="module", params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def learnt(name: str) -> nn.Module:
    """A model that knows the rule."""
    return fitted(name, planted(120, seed=1), LABELS, seed=1)


def test_learns_what_only_speaker_and_context_tell(learnt: nn.Module) -> None:
    """How somebody felt when that was said; the lines to label are all alike."""
    dialogues = planted(40, seed=2)

    assert share_right(answered(learnt, dialogues, LABELS), dialogues) > 0.95


def test_without_speakers_the_same_is_a_guess(name: str) -> None:
    """So that the test above is of speakers: all lines are one person's."""

    def alone(dialogues: list[Turns]) -> list[Turns]:
        return [replace(one, speakers=np.zeros_like(one.speakers)) for one in dialogues]

    model = fitted(name, alone(planted(120, seed=1)), LABELS, seed=1)
    shuffled = alone(planted(40, seed=2))

    assert share_right(answered(model, shuffled, LABELS), shuffled) < 0.75


def test_later_turns_change_no_answer(learnt: nn.Module) -> None:
    """Neither what is said in them, nor who says it, nor that they are there."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(12, DIMENSIONS)).astype(np.float32)
    whole = Turns(vectors, rng.integers(0, 3, 12), np.zeros(12, np.int64))
    probabilities = answered(learnt, [whole], LABELS)

    for seen in range(1, 12):
        later = slice(seen, None)
        others = Turns(vectors.copy(), whole.speakers.copy(), whole.gold)
        others.vectors[later] = rng.normal(size=(12 - seen, DIMENSIONS))
        others.speakers[later] = rng.integers(0, 5, 12 - seen)
        ended = Turns(vectors[:seen], whole.speakers[:seen], whole.gold[:seen])
        for one in (others, ended):
            assert answered(learnt, [one], LABELS)[:seen] == pytest.approx(
                probabilities[:seen], abs=1e-6
            )
        assert not np.allclose(
            answered(learnt, [others], LABELS)[later], probabilities[later], atol=1e-6
        )


def test_dialogues_beside_it_change_no_answer(learnt: nn.Module) -> None:
    """They are padded to the longest of a batch."""
    dialogues = planted(6, seed=3)
    one_by_one = np.concatenate([answered(learnt, [one], LABELS) for one in dialogues])

    assert answered(learnt, dialogues, LABELS) == pytest.approx(one_by_one, abs=1e-6)


def test_same_seed_fits_the_same_model_on_any_number_of_threads(name: str) -> None:
    """To the last digit; another seed fits another. Nobody else's random numbers are drawn."""
    dialogues, unseen = planted(8, seed=1), planted(4, seed=2)
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    try:
        probabilities = []
        for seed, count in ((1, 1), (1, 2), (2, 1)):
            torch.set_num_threads(count)
            torch.rand(1)
            before = torch.random.get_rng_state()
            probabilities.append(answered(fitted(name, dialogues, LABELS, seed), unseen, LABELS))
            assert torch.equal(torch.random.get_rng_state(), before)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
        torch.random.set_rng_state(state)

    assert (probabilities[0] == probabilities[1]).all()
    assert not (probabilities[0] == probabilities[2]).all()


def test_is_small(name: str) -> None:
    """Less than a million parameters on the shipped encoder's vectors."""
    one = Turns(np.zeros((2, 384), np.float32), np.zeros(2, np.int64), np.asarray([0, 1]))
    model = fitted(name, [one], 7, seed=1)

    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000


def test_long_dialogue_is_answered_turn_by_turn(learnt: nn.Module) -> None:
    """Every label of it, and by what was said right before."""
    spoken = planted(60, seed=4)
    long = Turns(
        np.concatenate([one.vectors for one in spoken]),
        np.concatenate([one.speakers + 3 * n for n, one in enumerate(spoken)]),
        np.concatenate([one.gold for one in spoken]),
    )
    assert len(long.gold) > 256

    probabilities = answered(learnt, [long], LABELS)

    assert len(probabilities) == (long.gold != UNLABELLED).sum()
    assert share_right(probabilities, [long]) > 0.9


def test_training_dialogues_are_told_by_models_that_do_not_know_them(name: str) -> None:
    """Each fifth of them by what the others teach; in the order of the dialogues."""
    dialogues = planted(7, seed=1)
    ends = np.cumsum([(one.gold != UNLABELLED).sum() for one in dialogues])

    probabilities = out_of_fold_probabilities(name, dialogues, LABELS, seed=1)

    assert len(probabilities) == ends[-1]
    model = fitted(name, [dialogues[place] for place in (0, 2, 3, 4, 5)], LABELS, seed=1)
    for place in (1, 6):
        rows = probabilities[ends[place - 1] : ends[place]]
        assert (rows == answered(model, [dialogues[place]], LABELS)).all()


def test_nothing_is_known_without_another_dialogue(name: str) -> None:
    probabilities = out_of_fold_probabilities(name, planted(1, seed=1), LABELS, seed=1)

    assert (probabilities == 1 / LABELS).all()


def test_dialogues_without_labels_teach_nothing_and_are_not_asked(name: str) -> None:
    """Nor do those without a turn; neither stands in the way of others."""
    silent = planted(1, seed=9)[0]
    silent.gold[:] = UNLABELLED
    empty = Turns(np.zeros((0, DIMENSIONS), np.float32), *[np.zeros(0, np.int64)] * 2)
    dialogues, unseen = planted(5, seed=1), planted(3, seed=2)

    model = fitted(name, [silent, *dialogues, empty], LABELS, 1)

    probabilities = answered(fitted(name, dialogues, LABELS, 1), unseen, LABELS)
    assert (answered(model, [silent, *unseen, empty], LABELS) == probabilities).all()
    assert answered(model, [silent, empty], LABELS).shape == (0, LABELS)
