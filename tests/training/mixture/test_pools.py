"""The pools that training prompts draw demonstrations from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from service.conversation.dialogue import Dialogue, Utterance
from tests.training.mixture.conftest import TALKS
from training.arrays import Vectors
from training.datasets.errors import DatasetError
from training.datasets.reading import Corpus
from training.mixture.pools import Pools
from training.mixture.sources import Sources
from training.recipe import Demonstrations


def test_utterance_is_not_shown_itself_out_of_another_corpus(sources: Sources) -> None:
    """Two corpora were cut from one series: under another id, and labelled by other people.

    In unified labels, and in the other corpus's own where those are pseudo-labels; nor a short one
    of a dialogue that is known by another line. Within a corpus the same words are said again, and
    a short line is said everywhere.
    """
    lines = ("We caught the very last ferry!", "Hurrah!", "Where did I put my hat?")
    spaces = sources.label_spaces

    def corpus(name: str, label: str, dialogues: Mapping[str, tuple[str, ...]]) -> Corpus:
        utterances = (
            Dialogue(key, tuple(Utterance("Ann", text, label) for text in texts))
            for key, texts in dialogues.items()
        )
        return Corpus(Path(name), spaces[name], tuple(utterances))

    ours = corpus("meld", "joy", {"ours": lines, "again": (lines[2],)})
    theirs = corpus(
        "emorynlp", "joyful", {"theirs": (lines[0].upper(), "Hurrah!"), "short": lines[1:2]}
    )
    settings = Demonstrations(count=1, share=1.0, balanced=False)
    pools = Pools(sources, [ours, theirs], 1, ())

    def shown(asking: Corpus, space: str) -> list[str]:
        nearest = pools.nearest(asking, "train", spaces[space], settings)
        of_ours = [nearest["ours", index] for index in range(len(lines))]
        return [demonstration.id for (demonstration,) in of_ours]

    pseudo_labelled = replace(ours, label_space=spaces["emorynlp"], pseudo_labelled=True)
    held_out = replace(ours, path=Path("held-out"))
    assert shown(ours, "unified") == ["again/0", "short/0", "again/0"]
    assert shown(pseudo_labelled, "emorynlp")[:2] == ["short/0", "short/0"]
    assert shown(held_out, "unified")[0] == "theirs/0"


def test_pool_with_a_held_out_dialogue_is_refused(sources: Sources) -> None:
    """Under another id, in another file: what it is asked about would show it the answers."""
    (talks,) = sources.corpora([TALKS])
    copied = replace(talks.dialogues[1], id="copied")
    development = Corpus(Path("dev.jsonl"), talks.label_space, (copied,))

    with pytest.raises(DatasetError, match=r"talks\.jsonl: held-out .* in prompts: 'soup'$"):
        Pools(sources, [talks], 1, [development])

    rest = replace(talks, dialogues=(talks.dialogues[0], talks.dialogues[2]))
    pool = Pools(sources, [rest], 1, [development]).get("train", talks.label_space, balanced=False)
    assert {*pool.dialogues} == {"ferry", "keys"}


def test_pool_is_made_once(sources: Sources) -> None:
    """Encoding a corpus takes minutes."""
    encoded: list[int] = []

    def counting(texts: Sequence[str]) -> Vectors:
        encoded.append(len(texts))
        return sources.encode_texts(texts)

    counted = replace(sources, encode_texts=counting)
    pools = Pools(counted, counted.corpora([TALKS]), 1, ())
    meld, unified = (sources.label_spaces[name] for name in ("meld", "unified"))

    first, second, other = (pools.get("train", s) for s in (meld, meld, unified))

    assert first is second
    assert other is not first
    assert len(encoded) == 2


def test_label_space_that_nothing_trains_has_an_empty_pool(sources: Sources) -> None:
    """So a corpus may be held out that no stage trains."""
    pools = Pools(sources, sources.corpora([TALKS]), 1, ())

    assert pools.get("train", sources.label_spaces["iemocap"]).demonstrations == ()


def test_demonstrations_are_known_by_dialogue_and_index(sources: Sources) -> None:
    """Whatever the order in which a corpus holds its dialogues."""
    (talks,) = sources.corpora([TALKS])
    settings = Demonstrations(count=1, share=1.0, balanced=False)
    turned = replace(talks, dialogues=talks.dialogues[::-1])

    nearest, of_turned = (
        Pools(sources, [talks], 1, ()).nearest(corpus, "train", talks.label_space, settings)
        for corpus in (talks, turned)
    )

    assert nearest == of_turned
    assert nearest.keys() == {(d.id, n) for d in talks.dialogues for n in range(len(d.utterances))}
