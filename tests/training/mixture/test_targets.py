"""What the main task is taught where that is more than a label."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from service.conversation.labels import LabelSpace
from tests.training.conftest import RECIPE
from training.arrays import Vectors
from training.mixture.classifier import Split, classified, encode_split
from training.mixture.mixing import mix
from training.mixture.pools import Pools
from training.mixture.sources import Sources
from training.mixture.targets import check_balance, soft_labels, teacher_probabilities, weights
from training.mixture.tasks import PromptSettings
from training.recipe import RecipeError, Stage

STAGE = Stage.model_validate(RECIPE["stages"][0] | {"name": "taught", "distillation": 0.4})


@pytest.fixture
def split(
    sources: Sources, spaces: Mapping[str, LabelSpace], encode: Callable[[Sequence[str]], Vectors]
) -> Split:
    (talks,) = sources.corpora(STAGE.corpora[:1])
    return encode_split(talks.dialogues, spaces["meld"], encode)


def test_no_dialogue_is_answered_by_a_teacher_that_knows_it(split: Split) -> None:
    """With another label on every utterance of one dialogue, what is said of it stays the same."""
    changed = split.gold.copy()
    own = split.dialogues == 0
    changed[own] = (changed[own] + 1) % 7
    other = replace(split, gold=changed)

    before, after = teacher_probabilities(split, 7), teacher_probabilities(other, 7)

    assert before[own] == pytest.approx(after[own])
    assert before[~own] != pytest.approx(after[~own])
    assert before.sum(1) == pytest.approx(1.0)


def test_what_is_said_is_what_the_classifier_says(split: Split) -> None:
    """Which is fitted on four fifths of the dialogues."""
    probabilities = teacher_probabilities(split, 7)

    unseen = split.dialogues % 5 == 1
    assert probabilities[unseen] == pytest.approx(
        classified(split, ~unseen, split.contexts[unseen], 7)
    )


def test_teacher_that_knows_one_label_at_most_says_nothing(split: Split) -> None:
    alone = split.dialogues == 0
    single = replace(
        split,
        places=tuple(place for place, kept in zip(split.places, alone, strict=True) if kept),
        dialogues=split.dialogues[alone],
        gold=split.gold[alone],
        vectors=split.vectors[alone],
        contexts=split.contexts[alone],
    )

    assert teacher_probabilities(single, 7) == pytest.approx(1 / 7)


def test_targets_are_a_share_of_the_label_and_the_teachers_rest(
    sources: Sources, spaces: Mapping[str, LabelSpace], split: Split
) -> None:
    """0.6 to the label itself, 0.4 as the teacher says, for each utterance and label space."""
    corpora = sources.corpora(STAGE.corpora)

    targets = soft_labels(corpora, STAGE, sources, Pools(sources, corpora, 7, ()))

    talks, others = corpora
    assert {name for name, _, _ in targets} == {"meld", "emorynlp", "unified"}
    assert {path for name, path, _ in targets if name == "meld"} == {talks.path}
    assert {path for name, path, _ in targets if name == "unified"} == {talks.path, others.path}
    expected = 0.4 * teacher_probabilities(split, 7) + 0.6 * np.eye(7)[split.gold]
    for (dialogue, index, _), row in zip(split.places, expected, strict=True):
        assert targets["meld", talks.path, dialogue][index] == pytest.approx(row)


def test_a_stage_that_asks_for_nothing_is_taught_its_labels(sources: Sources) -> None:
    stage = STAGE.model_copy(update={"distillation": 0.0})

    corpora = sources.corpora(stage.corpora)

    assert not soft_labels(corpora, stage, sources, Pools(sources, corpora, 7, ()))


def test_rare_labels_count_for_more_where_a_label_space_is_balanced(sources: Sources) -> None:
    """By their frequency alone; a label space that is not named is as it was."""
    stage = STAGE.model_copy(update={"distillation": 0.0, "balance": {"emorynlp": 0.5}})
    corpora = sources.corpora(stage.corpora)

    targets = soft_labels(corpora, stage, sources, Pools(sources, corpora, 7, ()))

    assert {name for name, _, _ in targets} == {"emorynlp"}
    rows = [row for of_dialogue in targets.values() for row in of_dialogue.values()]
    assert sum(map(sum, rows)) == pytest.approx(len(rows))  # 1 in the mean
    assert all(sum(share > 0 for share in row) == 1 for row in rows)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_a_label_counts_by_a_power_of_its_frequency(power: float) -> None:
    """Four, one and none of five; with the power 1 each label counts as much as another."""
    gold = np.asarray([0, 0, 1, 0, 0])

    factors = weights(np.bincount(gold, minlength=3) / 5, power)

    assert factors[1] / factors[0] == pytest.approx(4**power)
    assert factors[gold].mean() == pytest.approx(1)
    assert factors[2] == 0


def test_balance_of_a_label_space_that_is_not_trained_is_refused(sources: Sources) -> None:
    stage = STAGE.model_copy(update={"balance": {"iemocap": 0.5}})

    with pytest.raises(
        RecipeError, match="stage taught: balance: the stage does not train iemocap"
    ):
        check_balance(sources.corpora(stage.corpora), stage, sources)


def test_main_task_is_taught_what_the_teacher_says(
    sources: Sources, prompts: PromptSettings
) -> None:
    """In each label space, at the first token of each label's verbalizer."""
    corpora = sources.corpora(STAGE.corpora)
    soft = soft_labels(corpora, STAGE, sources, Pools(sources, corpora, 7, ()))

    examples = mix(
        corpora, STAGE, Pools(sources, corpora, 7, ()), sources, prompts, seed=7, epoch=0, soft=soft
    )

    assert {example.label_space.name for example in examples} == {"meld", "emorynlp", "unified"}
    for example in examples:
        space = example.label_space
        own = space.verbalizers[space.names.index(example.label)]
        shares = dict(example.example.soft)
        assert sum(shares.values()) == pytest.approx(1.0)
        assert shares.keys() == {prompts.tokenizer.encode(v)[0] for v in space.verbalizers}
        assert shares[prompts.tokenizer.encode(own)[0]] >= 0.6
