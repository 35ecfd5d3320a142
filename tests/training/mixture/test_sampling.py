"""A share of a corpus's labels."""

import pytest

from tests.training.mixture.conftest import OTHERS, TALKS
from training.datasets.reading import Corpus
from training.mixture.pools import Pools
from training.mixture.sampling import sampled
from training.mixture.sources import Sources
from training.mixture.targets import soft_labels
from training.recipe import Sample, Stage


@pytest.fixture
def corpora(sources: Sources) -> list[Corpus]:
    return sources.corpora([TALKS, OTHERS])


def labels(corpus: Corpus) -> list[str]:
    return [u.label for d in corpus.dialogues for u in d.utterances if u.label is not None]


@pytest.mark.parametrize(("of", "sizes"), [("each", [4, 2]), ("all", None)])
def test_share_is_of_each_corpus_or_of_all_together(
    of: str, sizes: list[int] | None, corpora: list[Corpus]
) -> None:
    """Nine and five utterances; what is not drawn loses its label and nothing else."""
    drawn = sampled(corpora, Sample.model_validate({"share": 0.5, "of": of}), 1)

    counts = [len(labels(corpus)) for corpus in drawn]
    assert counts == sizes if sizes else sum(counts) == 7
    for before, after in zip(corpora, drawn, strict=True):
        assert [[u.text for u in d.utterances] for d in before.dialogues] == [
            [u.text for u in d.utterances] for d in after.dialogues
        ]


def test_the_seed_decides_what_is_drawn(corpora: list[Corpus]) -> None:
    half = Sample(share=0.5)

    assert sampled(corpora, half, 1) == sampled(corpora, half, 1)
    assert sampled(corpora, half, 1) != sampled(corpora, half, 2)
    assert sampled(corpora, Sample(share=1.0), 1) == corpora


def test_smallest_sample_is_an_utterance(corpora: list[Corpus]) -> None:
    drawn = sampled(corpora, Sample(share=0.001, of="all"), 1)

    assert sum(len(labels(corpus)) for corpus in drawn) == 1


def test_what_is_not_drawn_is_no_demonstration(sources: Sources, corpora: list[Corpus]) -> None:
    """A model that was shown other labels would know more than the share of them."""
    drawn = sampled(corpora, Sample(share=0.3), 1)

    pool = Pools(sources, drawn, 1, ()).get("train", sources.label_spaces["meld"], balanced=False)

    assert sorted(d.label for d in pool.demonstrations) == sorted(labels(drawn[0]))


def test_label_space_without_a_label_drawn_has_no_teacher(
    sources: Sources, corpora: list[Corpus]
) -> None:
    stage = Stage(
        name="few", corpora=(TALKS, OTHERS), epochs=1, learning_rate=0.1, distillation=0.4
    )
    drawn = sampled(corpora, Sample(share=0.001, of="all"), 1)

    targets = soft_labels(drawn, stage, sources, Pools(sources, drawn, 1, ()))

    assert {path for _, path, _ in targets} == {c.path for c in drawn if labels(c)}
