"""What models together make of corpora in each other's label spaces."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from service.conversation.labels import LabelSpace
from tests.training.conftest import RECIPE
from training.arrays import Floats
from training.datasets.reading import Corpus
from training.mixture.mixing import mix
from training.mixture.pools import Pools
from training.mixture.pseudo_labels import Teacher, check_pseudo_labels, pseudo_labelled
from training.mixture.sources import Sources
from training.mixture.tasks import LabelledExample, PromptSettings
from training.recipe import RecipeError, Stage

STAGE = Stage.model_validate(
    RECIPE["stages"][0] | {"pseudo_labels": {"teacher": "earlier"}, "unified": 0.0}
)


@pytest.fixture
def corpora(sources: Sources) -> list[Corpus]:
    return sources.corpora(STAGE.corpora)


def second_is_likely(examples: Sequence[LabelledExample]) -> list[Floats]:
    """Half, and what is left among the others."""
    return [np.eye(7)[1] * 0.5 + (1 - np.eye(7)[1]) * 0.5 / 6 for _ in examples]


def test_each_corpus_is_labelled_in_the_others_label_space(
    corpora: list[Corpus], prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    """Every utterance of it: with the likeliest label, and softly with all of them."""
    made, soft = pseudo_labelled(corpora, STAGE, Teacher(prompts, second_is_likely))

    talks, others = corpora
    assert [(c.path, c.label_space.name, c.pseudo_labelled) for c in made] == [
        (talks.path, "emorynlp", True),
        (others.path, "meld", True),
    ]
    for corpus, before in zip(made, corpora, strict=True):
        assert {u.label for d in corpus.dialogues for u in d.utterances} == {
            corpus.label_space.names[1]
        }
        assert [[u.text for u in d.utterances] for d in corpus.dialogues] == [
            [u.text for u in d.utterances] for d in before.dialogues
        ]
        for dialogue in corpus.dialogues:
            probabilities = soft[corpus.label_space.name, corpus.path, dialogue.id]
            assert probabilities.keys() == set(range(len(dialogue.utterances)))
            assert all(row[1] == pytest.approx(0.5) for row in probabilities.values())


def test_rare_labels_count_for_more_where_the_stage_says_so(
    corpora: list[Corpus], prompts: PromptSettings
) -> None:
    """By how often the models say them: with the power 1, each label as much as another."""
    stage = STAGE.model_copy(update={"balance": {"meld": 1.0}})

    _, soft = pseudo_labelled(corpora, stage, Teacher(prompts, second_is_likely))

    for (space, _, _), of_dialogue in soft.items():
        for row in of_dialogue.values():
            assert row[0] / row[1] == pytest.approx(1.0 if space == "meld" else 1 / 6)


def test_corpora_of_one_label_space_have_nothing_to_say_in_another(corpora: list[Corpus]) -> None:
    with pytest.raises(
        RecipeError, match="stage first: pseudo_labels: needs corpora of several label"
    ):
        check_pseudo_labels(corpora[:1], STAGE)
    check_pseudo_labels(corpora, STAGE)


def test_a_share_of_the_dialogues_trains_by_them(
    sources: Sources, corpora: list[Corpus], prompts: PromptSettings
) -> None:
    """In that label space alone: unified labels are made of the corpora's own."""
    made, soft = pseudo_labelled(corpora, STAGE, Teacher(prompts, second_is_likely))
    stage = STAGE.model_copy(update={"unified": 1.0})
    pools = Pools(sources, corpora, 7, ())

    examples = mix(made, stage, pools, sources, prompts, seed=7, soft=soft)

    assert {e.label_space.name for e in examples} == {"meld", "emorynlp"}
    assert len(examples) == sum(len(d.utterances) for c in made for d in c.dialogues)
    assert all(max(dict(e.example.soft).values()) == pytest.approx(0.5) for e in examples)
