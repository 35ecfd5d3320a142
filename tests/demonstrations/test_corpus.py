"""The file of demonstrations, its reader, and the index built from it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from service.conversation.dialogue import Demonstration
from service.conversation.labels import LabelSpace, load_label_spaces
from service.demonstrations.corpus import (
    DemonstrationFormatError,
    build_index,
    edition_of,
    read_demonstrations,
)
from service.demonstrations.encoder import Encoder, Vectors
from service.demonstrations.qdrant_edge.store import EdgeStore, open_edge
from service.errors import DemonstrationNotFound, DemonstrationsUnavailable

DATA = Path(__file__).parents[2] / "data"
ROWS = tuple(
    Demonstration(f"row-{n}", "meld", label, text)
    for n, (label, text) in enumerate(
        [
            ("joy", "We got the flat! They called this morning!"),
            ("anger", "You read my letters, all of them."),
            ("neutral", "The ferry goes every half hour."),
        ]
    )
)


class Counting:
    """The real encoder, with a count of what it encodes and a text it fails on."""

    def __init__(self, real: Encoder) -> None:
        self.texts: list[str] = []
        self.fails_on: str | None = None
        self._real = real
        self.encoder = Encoder(self._embed, real.identity)

    def _embed(self, texts: list[str]) -> Vectors:
        if self.fails_on in texts:
            raise RuntimeError("scripted")
        self.texts += texts
        return self._real.encode_now(texts)


@pytest.fixture
def spaces() -> Mapping[str, LabelSpace]:
    return load_label_spaces(DATA / "label_spaces")


@pytest.fixture
async def counting(encoder: Encoder) -> AsyncIterator[Counting]:
    counting = Counting(encoder)
    yield counting
    await counting.encoder.close()


@pytest.fixture
async def store(tmp_path: Path, encoder: Encoder) -> AsyncIterator[EdgeStore]:
    store = await open_edge(tmp_path / "index", encoder.identity)
    yield store
    await store.close()


async def held(store: EdgeStore) -> set[Demonstration]:
    return set((await store.list(None, limit=1000)).demonstrations)


def test_shipped_demonstrations_are_many_and_balanced(spaces: Mapping[str, LabelSpace]) -> None:
    """Every label of every label space has as many as any other."""
    shipped = read_demonstrations(DATA / "demonstrations.jsonl", spaces)

    counts = Counter((d.label_space, d.label) for d in shipped)
    assert len(shipped) >= 300
    assert counts.keys() == {(s.name, label) for s in spaces.values() for label in s.names}
    assert len(set(counts.values())) == 1


def test_shipped_demonstrations_have_texts_of_their_own(spaces: Mapping[str, LabelSpace]) -> None:
    """No text twice, also not in another case or with other spaces."""
    shipped = read_demonstrations(DATA / "demonstrations.jsonl", spaces)

    texts = Counter(" ".join(d.text.casefold().split()) for d in shipped)
    assert [text for text, count in texts.items() if count > 1] == []


def row(**changes: object) -> str:
    return json.dumps(
        {"id": "a", "label_space": "meld", "label": "joy", "text": "We won!"} | changes
    )


def test_rows_are_read_in_order(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """Empty lines are skipped; a label's name is found without regard to case."""
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{row()}\n\n{row(id='b', label='Sadness', text='好')}\n", encoding="utf-8")

    assert read_demonstrations(path, spaces) == (
        Demonstration("a", "meld", "joy", "We won!"),
        Demonstration("b", "meld", "sadness", "好"),
    )


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "a demonstration must be an object"),
        ('{"id": "b"}', "label_space: is missing"),
        (row(id=7), "id: must be text, not 7"),
        (row(id="b", text=" "), "text: must not be blank"),
        (row(id="b", text="\ud800"), "text: must not contain lone surrogates"),
        (row(id="b", label_space="mood"), "label_space: 'mood' is not one of"),
        (row(id="b", label="joyful"), "label: 'joyful' is not a label of meld"),
        (row(id="b", lable="joy"), "lable: unknown field"),
        (row(), "id: 'a' is also on line 1"),
    ],
)
def test_malformed_row_is_refused(
    tmp_path: Path, spaces: Mapping[str, LabelSpace], line: str, complaint: str
) -> None:
    """The error names file, line and field."""
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{row()}\n{line}\n", encoding="utf-8")

    with pytest.raises(DemonstrationFormatError) as caught:
        read_demonstrations(path, spaces)

    assert str(caught.value).startswith(f"{path}:2: {complaint}")


def test_edition_changes_with_rows_and_encoder() -> None:
    """Each word of each row counts, and so does the encoder."""
    relabelled = Demonstration("row-0", "meld", "surprise", ROWS[0].text)

    editions = [
        edition_of(ROWS, "one@00000000"),
        edition_of(ROWS, "two@00000000"),
        edition_of(ROWS[1:], "one@00000000"),
        edition_of((relabelled, *ROWS[1:]), "one@00000000"),
    ]

    assert len(set(editions)) == 4
    assert edition_of(list(ROWS), "one@00000000") == editions[0]


async def test_built_index_finds_the_shipped_demonstrations(
    spaces: Mapping[str, LabelSpace], store: EdgeStore, encoder: Encoder
) -> None:
    """All are there, and each one's own text finds it first; progress ends at all of all."""
    shipped = read_demonstrations(DATA / "demonstrations.jsonl", spaces)[::5]
    progress: list[tuple[int, int]] = []

    written = await build_index(store, encoder, shipped, lambda *step: progress.append(step))

    assert written == await store.count() == len(shipped)
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert progress[-1] == (len(shipped), len(shipped))
    for demonstration in shipped[::10]:
        vector = await encoder.encode(demonstration.text)
        (best,) = await store.nearest(vector, demonstration.label_space, k=1)
        assert best.demonstration == demonstration


async def test_second_build_encodes_nothing(
    store: EdgeStore, counting: Counting, tmp_path: Path
) -> None:
    """Also in the next process; what people have deleted since stays away."""
    await build_index(store, counting.encoder, ROWS)
    await store.delete("row-1")
    await store.close()
    counting.texts.clear()
    again = await open_edge(tmp_path / "index", counting.encoder.identity)

    written = await build_index(again, counting.encoder, ROWS)

    assert (written, counting.texts) == (0, [])
    assert await held(again) == {ROWS[0], ROWS[2]}
    await again.close()


async def test_what_people_added_survives_a_new_edition(
    store: EdgeStore, counting: Counting
) -> None:
    """Only the edition before goes; under an id that the new one has, the new one wins."""
    await build_index(store, counting.encoder, ROWS)
    own = Demonstration("own", "meld", "fear", "Did you hear that?")
    taken = Demonstration("row-9", "meld", "fear", "Somebody is in the house.")
    await store.add([own, taken], counting.encoder.encode_now([own.text, taken.text]))
    shipped = Demonstration("row-9", "meld", "joy", "Look who is here!")

    await build_index(store, counting.encoder, (ROWS[0], shipped))

    assert await held(store) == {ROWS[0], shipped, own}
    with pytest.raises(DemonstrationNotFound):
        await store.get("row-1")


async def test_build_that_was_cut_short_is_done_again(store: EdgeStore, counting: Counting) -> None:
    """A part of an edition does not pass for the whole."""
    rows = [Demonstration(f"row-{n}", "meld", "joy", f"line {n}") for n in range(70)]
    counting.fails_on = "line 65"
    with pytest.raises(DemonstrationsUnavailable):
        await build_index(store, counting.encoder, rows)
    assert await store.edition() is None
    counting.fails_on = None

    written = await build_index(store, counting.encoder, rows)

    assert written == 70
    assert await held(store) == set(rows)


async def test_concurrent_builds_of_one_edition_agree(store: EdgeStore, counting: Counting) -> None:
    """Two replicas that start together on one server leave the same index as one."""
    await asyncio.gather(
        build_index(store, counting.encoder, ROWS), build_index(store, counting.encoder, ROWS)
    )

    assert await held(store) == set(ROWS)
    assert await store.edition() == edition_of(ROWS, counting.encoder.identity)


async def test_vectors_that_are_kept_are_not_encoded_again(
    counting: Counting, tmp_path: Path
) -> None:
    """Another index of the same demonstrations finds the same in them."""
    kept, matches = tmp_path / "kept", []
    for name in ("one", "two"):
        store = await open_edge(tmp_path / name, counting.encoder.identity)
        assert await build_index(store, counting.encoder, ROWS, kept=kept) == len(ROWS)
        (vector,) = counting.encoder.encode_now(["They gave us the flat!"])
        matches.append(await store.nearest(vector, "meld", 3))
        await store.close()

    assert [counting.texts.count(row.text) for row in ROWS] == [1, 1, 1]
    assert matches[0] == matches[1]


async def test_vectors_of_other_demonstrations_are_not_taken(
    counting: Counting, tmp_path: Path
) -> None:
    """What has changed is encoded, with all others."""
    changed = (*ROWS[:-1], replace(ROWS[-1], text="The ferry goes every hour."))
    for name, rows in (("one", ROWS), ("two", changed)):
        store = await open_edge(tmp_path / name, counting.encoder.identity)
        await build_index(store, counting.encoder, rows, kept=tmp_path / "kept")
        await store.close()

    assert counting.texts == [row.text for row in (*ROWS, *changed)]
