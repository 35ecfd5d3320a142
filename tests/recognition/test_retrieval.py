"""What is retrieved for an utterance in its dialogue."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from service.conversation.dialogue import Demonstration
from service.conversation.neighbours import BOTH_BEGIN, ONE_BEGINS
from service.demonstrations.encoder import DIMENSIONS, Encoder, Vectors, load_encoder
from service.demonstrations.qdrant_edge.store import EdgeStore, open_edge
from service.demonstrations.store import Correction
from service.priority import Priority
from service.recognition.retrieval import NearestDemonstrations, Retrieved, Wanted, context_of

WANTED = Wanted(examples=2, least_similarity=0.5, decisive_similarity=0.75)


class Counting:
    """Gives each text a direction of its own, and counts what it was asked."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: list[str]) -> Vectors:
        self.texts += texts
        return np.stack([np.eye(DIMENSIONS, dtype=np.float32)[len(text)] for text in texts])


@pytest.fixture
def embed() -> Counting:
    return Counting()


@pytest.fixture
async def encoder(embed: Counting) -> AsyncIterator[Encoder]:
    encoder = Encoder(embed, "counting@1")
    yield encoder
    await encoder.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EdgeStore]:
    store = await open_edge(tmp_path / "index", "counting@1")
    yield store
    await store.close()


@pytest.fixture
def retrieval(encoder: Encoder, store: EdgeStore) -> NearestDemonstrations:
    return NearestDemonstrations(encoder, store)


async def ask(
    retrieval: NearestDemonstrations,
    *texts: str,
    tenant: str | None = "one",
    wanted: Wanted = WANTED,
) -> Retrieved:
    return await retrieval.nearest(texts, "meld", wanted, tenant, Priority.INTERACTIVE)


async def correct(
    encoder: Encoder, store: EdgeStore, *texts: str, name: str = "c1", tenant: str = "one"
) -> None:
    *before, vector = [await encoder.encode(text) for text in texts]
    demonstration = Demonstration(name, "meld", "joy", texts[-1])
    await store.add_correction(Correction(demonstration, context_of(before), 1.0), vector, tenant)


async def test_a_correction_is_found_by_its_line_and_compared_by_its_context(
    retrieval: NearestDemonstrations, encoder: Encoder, store: EdgeStore
) -> None:
    """Half of the context is half of the cosine, less what is rounded away."""
    await correct(encoder, store, "a", "bb", "ccc")

    (same,) = (await ask(retrieval, "a", "bb", "ccc")).corrections
    (half,) = (await ask(retrieval, "a", "dddd", "ccc")).corrections
    (other,) = (await ask(retrieval, "dddd", "eeeee", "ccc")).corrections

    assert same.corrected.similarity == pytest.approx(1)
    similarities = [each.context_similarity for each in (same, half, other)]
    assert similarities == pytest.approx([1, 0.5, 0], abs=1e-3)
    assert same.corrected.correction.demonstration.text == "ccc"


async def test_where_dialogues_begin_there_is_no_context_to_compare(
    retrieval: NearestDemonstrations, encoder: Encoder, store: EdgeStore
) -> None:
    """One of them, or both."""
    await correct(encoder, store, "ccc")

    (both,) = (await ask(retrieval, "ccc")).corrections
    (one,) = (await ask(retrieval, "a", "ccc")).corrections

    assert (both.context_similarity, one.context_similarity) == (BOTH_BEGIN, ONE_BEGINS)


async def test_corrections_are_no_examples_and_nobody_elses(
    retrieval: NearestDemonstrations, encoder: Encoder, store: EdgeStore
) -> None:
    """Neither another tenant's, nor that of one who has none."""
    shared = Demonstration("e1", "meld", "anger", "ccc")
    await store.add([shared], (await encoder.encode("ccc"))[None])
    await correct(encoder, store, "ccc")

    for tenant, corrections in (("one", 1), ("two", 0), (None, 0)):
        retrieved = await ask(retrieval, "ccc", tenant=tenant)

        assert [match.demonstration for match in retrieved.examples] == [shared]
        assert len(retrieved.corrections) == corrections


async def test_a_far_correction_is_not_found(
    retrieval: NearestDemonstrations, encoder: Encoder, store: EdgeStore
) -> None:
    """Its context is not looked at either."""
    await correct(encoder, store, "a", "bb", "ccc")

    assert (await ask(retrieval, "a", "bb", "dddd")).corrections == ()


async def test_a_dialogues_lines_are_encoded_once(
    retrieval: NearestDemonstrations, encoder: Encoder, store: EdgeStore, embed: Counting
) -> None:
    """Though each is the context of the next ones; of another tenant's the vectors are not told."""
    await correct(encoder, store, "a", "bb", "ccc")
    embed.texts.clear()

    for end in (["a"], ["a", "bb"], ["a", "bb", "ccc"], ["a", "bb", "ccc"]):
        await ask(retrieval, *end)
    assert embed.texts == ["a", "bb", "ccc"]

    await ask(retrieval, "ccc", tenant="two")
    assert embed.texts == ["a", "bb", "ccc", "ccc"]


async def test_where_no_examples_are_wanted_and_there_are_no_corrections_nothing_is_encoded(
    retrieval: NearestDemonstrations, encoder: Encoder, store: EdgeStore, embed: Counting
) -> None:
    """The first correction changes that."""
    none = Wanted(examples=0, least_similarity=0.5, decisive_similarity=0.75)
    for tenant in ("one", None):
        assert await ask(retrieval, "ccc", tenant=tenant, wanted=none) == Retrieved()
    assert embed.texts == []

    await correct(encoder, store, "ccc")
    retrieved = await ask(retrieval, "ccc", wanted=none)
    assert (retrieved.examples, len(retrieved.corrections)) == ((), 1)

    without = Wanted(examples=0, least_similarity=None)
    embed.texts.clear()
    assert await ask(retrieval, "ccc", wanted=without) == Retrieved()
    assert embed.texts == []


async def test_of_many_like_lines_the_one_in_the_same_place_is_found(
    retrieval: NearestDemonstrations, encoder: Encoder, store: EdgeStore
) -> None:
    """Which of them come first by their lines alone does not decide."""
    places = [("a" * n, "b" * m) for n in range(1, 11) for m in range(1, 11)]
    for number, place in enumerate(places):
        await correct(encoder, store, *place, "c" * 20, name=f"c{number}")

    for number, place in enumerate(places):
        corrections = (await ask(retrieval, *place, "c" * 20)).corrections

        same = [
            near.corrected.match.demonstration.id
            for near in corrections
            if near.context_similarity > 0.99
        ]
        assert f"c{number}" in same


@pytest.mark.parametrize(
    ("line", "applies"),
    [
        ("\N{THUMBS UP SIGN}", True),
        ("\N{THUMBS UP SIGN}\N{THUMBS UP SIGN}", True),
        ("\N{POUTING FACE}", False),
        ("\N{CJK UNIFIED IDEOGRAPH-4E0D}" * 9, False),
        ("Y" * 400, False),
    ],
)
async def test_what_the_encoder_does_not_know_is_compared_as_it_is_written(
    line: str, store: EdgeStore, *, applies: bool
) -> None:
    """To the encoder all of it is one unknown word, as near to any other as can be."""
    encoder = load_encoder()
    try:
        await correct(encoder, store, "Did you get the money?", "\N{THUMBS UP SIGN}")

        retrieved = await ask(NearestDemonstrations(encoder, store), "Did you get the money?", line)
        assert bool(retrieved.corrections) is applies
    finally:
        await encoder.close()
