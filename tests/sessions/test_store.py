"""Durable dialogues keep what they are told, in order, once."""

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from service.admission.deadline import RequestDeadline
from service.conversation.dialogue import Line
from service.errors import DialogueNotFound
from service.sessions import erasure
from service.sessions.database import Database, open_database
from service.sessions.engines import transactional
from service.sessions.events import Events
from service.sessions.idempotency import Answer, Key, Once
from service.sessions.migrate import migrate
from service.sessions.records import StoredUtterance
from service.sessions.schema import answers, changes, corrections, dialogues, utterances
from service.sessions.store import Conflict, SessionStore, open_writer
from service.sessions.tails import Tail
from tests.clock import PATIENT_S

PREDICTION = {"label": "joy", "probabilities": {"neutral": 0.25, "joy": 0.75}}


async def say(
    store: SessionStore, speaker: str, text: str, dialogue_id: str = "call-42"
) -> StoredUtterance:
    """Append at the end; another writer may get in between."""
    tail = await store.tail("default", dialogue_id, speaker, lines=2)
    return (
        await store.append(tail, text=text, label_space="meld", prediction=PREDICTION)
    ).utterance


async def append_at(
    store: SessionStore,
    index: int,
    speaker: str = "Ann",
    text: str = "Hello.",
    dialogue_id: str = "call-42",
    *,
    prediction: dict[str, Any] = PREDICTION,
) -> StoredUtterance:
    """Append to the dialogue there is, as if it ended before `index`."""
    tail = await store.tail("default", dialogue_id, "Ann", lines=0)
    there = replace(tail, speaker=speaker, speaker_index=0, length=index)
    return (
        await store.append(there, text=text, label_space="meld", prediction=prediction)
    ).utterance


def shown(tail: Tail) -> tuple[int, int, tuple[Line, ...], int]:
    return tail.length, tail.first, tail.lines, tail.speaker_index


async def say_until_stored(store: SessionStore, speaker: str, text: str) -> int:
    while True:
        try:
            return (await say(store, speaker, text)).index
        except Conflict:
            pass


async def rows(database: Database) -> tuple[int, int]:
    """How many dialogues and utterances the tables hold."""
    async with database.engine.connect() as connection:
        counts = [
            (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in (dialogues, utterances)
        ]
    return counts[0], counts[1]


async def test_what_is_appended_is_read_back(store: SessionStore) -> None:
    """The timeline is what `append` returned, with times in UTC."""
    before = datetime.now(UTC)
    first = await say(store, "Ann", "We won!")
    second = await say(store, "Ben", "No way.")

    timeline = await store.timeline("default", "call-42")

    assert timeline.id == "call-42"
    assert timeline.utterances == (first, second)
    assert first == StoredUtterance(0, "Ann", 0, "We won!", "meld", PREDICTION, first.created_at)
    assert (second.index, second.speaker, second.speaker_index) == (1, "Ben", 1)
    assert timeline.created_at == first.created_at
    assert before <= first.created_at <= second.created_at <= datetime.now(UTC)
    assert timeline.utterances[0].created_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " spaces and\ttabs ",
        "'; DROP TABLE utterances; -- \" \\ %s :x",
        "one\r\ntwo\n\nthree\u2028four",
        "ניצחנו! \u202eمرحبا\u202c",
        "👩‍👩‍👧 e\u0301 é \U0001f1eb\U0001f1f7",
        "long " * 20_000,
    ],
    ids=["empty", "space", "quotes", "newlines", "right-to-left", "emoji", "long"],
)
async def test_any_text_comes_back_as_it_went_in(store: SessionStore, text: str) -> None:
    """Ids, speakers and predictions too: nothing is normalised, trimmed or read as SQL."""
    word = text[:40]
    await append_at(store, 0, word, text, f"d{word}", prediction={word: [word, None, True]})

    (stored,) = (await store.timeline("default", f"d{word}")).utterances

    assert (stored.speaker, stored.text, stored.prediction) == (
        word,
        text,
        {word: [word, None, True]},
    )


async def test_what_the_scene_looked_like_is_kept_where_it_was_said(store: SessionStore) -> None:
    """It comes back as it went in, and is no part of a later turn's lines."""
    tail = await store.tail("default", "call-42", "Ann", 2)
    seen = (
        await store.append(
            tail, text="Look.", label_space="meld", prediction={}, description="A kite,\n“high” 🪁"
        )
    ).utterance
    unseen = await say(store, "Ben", "Where?")

    timeline = await store.timeline("default", "call-42")

    assert seen.description == "A kite,\n“high” 🪁"
    assert unseen.description is None
    assert timeline.utterances == (seen, unseen)
    for lines in (1, 2):
        tail_read = await store.tail("default", "call-42", "Ann", lines)
        assert {line.description for line in tail_read.lines} == {None}


async def test_when_and_by_whom_it_was_spoken_is_kept(
    store: SessionStore, database: Database
) -> None:
    """In timeline and events: of one utterance, not of the next; every float is the same float."""
    tail = await store.tail("default", "call-42", "Ann", 2)
    sent: dict[str, Any] = {"start": 0.1 + 0.2, "end": 1e10, "role": "agent, “team lead” 🎧"}
    appended = await store.append(tail, text="Hi.", label_space="meld", prediction={}, **sent)
    untimed = await say(store, "Ben", "Hello.")

    timeline = await store.timeline("default", "call-42")

    assert timeline.utterances == (appended.utterance, untimed)
    events = Events(database)
    start = await events.begin("default", "call-42")
    assert start is not None
    page = await events.after("default", "call-42", start, 10)
    assert page is not None
    assert [each.what for each in page] == [appended.utterance, untimed]
    assert {name: getattr(timeline.utterances[0], name) for name in sent} == sent
    assert (untimed.start, untimed.end, untimed.role) == (None, None, None)


async def test_numbers_of_a_prediction_come_back_exactly(store: SessionStore) -> None:
    """Every float is the same float, integers stay integers, keys keep their order."""
    prediction = {
        "z": [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 1.0],
        "a": 2**53 + 1,
    }
    await append_at(store, 0, prediction=prediction)

    stored = (await store.timeline("default", "call-42")).utterances[0].prediction

    assert repr(stored) == repr(prediction)


async def test_a_prediction_with_nan_is_refused(store: SessionStore) -> None:
    """NaN is not JSON; nothing is stored."""
    with pytest.raises(ValueError, match="JSON"):
        await append_at(store, 0, prediction={"confidence": float("nan")})

    assert (await store.tail("default", "call-42", "Ann", 1)).length == 0


@pytest.mark.parametrize("broken", ["a\0b", "\ud83d"], ids=["nul", "lone surrogate"])
async def test_a_string_that_a_database_cannot_hold_is_refused(
    store: SessionStore, broken: str
) -> None:
    """Both databases refuse it alike, wherever it stands."""
    with pytest.raises(ValueError):
        await append_at(store, 0, text=broken)
    with pytest.raises(ValueError):
        await append_at(store, 0, speaker=broken)
    tail = await store.tail("default", "call-42", "Ann", 1)
    with pytest.raises(ValueError):
        await store.append(tail, text="Hi.", label_space="meld", prediction={}, description=broken)
    with pytest.raises(ValueError):
        await store.append(tail, text="Hi.", label_space="meld", prediction={}, role=broken)
    with pytest.raises(ValueError):
        await store.tail("default", broken, "Ann", 1)
    with pytest.raises(ValueError):
        await store.stored_tail("default", "call-42", broken, 1)
    with pytest.raises(ValueError):
        await store.timeline("default", broken)
    with pytest.raises(ValueError):
        await store.delete("default", broken)


async def test_an_unknown_dialogue_is_empty_to_a_writer_and_missing_to_a_reader(
    store: SessionStore,
) -> None:
    """A first utterance needs no dialogue; a timeline, a forecast and a deletion do."""
    assert shown(await store.tail("default", "nobody", "Ann", 8)) == (0, 0, (), 0)
    with pytest.raises(DialogueNotFound):
        await store.stored_tail("default", "nobody", "Ann", 8)
    with pytest.raises(DialogueNotFound):
        await store.timeline("default", "nobody")
    with pytest.raises(DialogueNotFound):
        await store.delete("default", "nobody")


async def test_a_tail_is_the_last_lines_oldest_first(store: SessionStore) -> None:
    """It says where its first line stands, and holds the whole of a shorter dialogue."""
    for number in range(5):
        await say(store, "Ann", f"line {number}")

    last_two = await store.tail("default", "call-42", "Ann", 2)
    assert shown(last_two) == (5, 3, (Line(0, "line 3"), Line(0, "line 4")), 0)
    assert (last_two.dialogue_id, last_two.speaker) == ("call-42", "Ann")

    whole = await store.tail("default", "call-42", "Ann", 20)
    assert (whole.length, whole.first) == (5, 0)
    assert [line.text for line in whole.lines] == [f"line {number}" for number in range(5)]

    assert shown(await store.tail("default", "call-42", "Ann", 0)) == (5, 5, (), 0)


async def test_speakers_are_numbered_by_first_appearance_beyond_the_tail(
    store: SessionStore,
) -> None:
    """A speaker who fell silent before the tail begins keeps the number."""
    for speaker in ["Ann", "Ben", "Cem", "Ben", "Ben"]:
        await say(store, speaker, "Hm.")

    async def coming(speaker: str) -> int:
        return (await store.tail("default", "call-42", speaker, 2)).speaker_index

    assert [await coming(name) for name in ["Ann", "Ben", "Cem", "Dan", "ann"]] == [0, 1, 2, 3, 3]
    assert (await store.tail("default", "call-42", "Ann", 2)).lines == (
        Line(1, "Hm."),
        Line(1, "Hm."),
    )


async def test_dialogues_do_not_see_each_other(store: SessionStore) -> None:
    """Lines, lengths and speakers belong to one dialogue."""
    await say(store, "Ann", "Here.", "one")
    await say(store, "Ben", "There.", "two")

    assert shown(await store.tail("default", "one", "Ben", 5)) == (1, 0, (Line(0, "Here."),), 1)
    assert [u.text for u in (await store.timeline("default", "two")).utterances] == ["There."]


async def test_a_tenant_has_its_dialogues_to_itself(
    store: SessionStore, database: Database
) -> None:
    """The same id names another dialogue, or none: to read, to forecast, to append to, to erase."""
    for tenant, text in (("one", "Ours."), ("two", "Theirs."), ("two", "Theirs alone.")):
        tail = await store.tail(tenant, "call-42", "Ann", 5)
        await store.append(tail, text=text, label_space="meld", prediction=PREDICTION)

    for reader in (store, SessionStore(database)):  # with what is remembered and without
        texts = [u.text for u in (await reader.timeline("one", "call-42")).utterances]
        assert texts == ["Ours."]
        assert shown(await reader.tail("one", "call-42", "Ann", 5)) == (
            1,
            0,
            (Line(0, "Ours."),),
            0,
        )
        assert (await reader.tail("three", "call-42", "Ann", 5)).length == 0
        for missing in (reader.timeline, reader.delete):
            with pytest.raises(DialogueNotFound):
                await missing("three", "call-42")
        with pytest.raises(DialogueNotFound):
            await reader.stored_tail("three", "call-42", "Ann", 5)
    await store.delete("two", "call-42")

    assert await rows(database) == (1, 1)
    assert (await store.tail("one", "call-42", "Ann", 5)).length == 1


@pytest.mark.parametrize("index", [0, 1, 3, -1])
async def test_an_index_other_than_the_length_is_a_conflict(
    store: SessionStore, index: int
) -> None:
    """Neither taken nor beyond the end: the dialogue stays as it was."""
    await say(store, "Ann", "One.")
    await say(store, "Ben", "Two.")

    with pytest.raises(Conflict):
        await append_at(store, index, text="Me!")

    assert [u.text for u in (await store.timeline("default", "call-42")).utterances] == [
        "One.",
        "Two.",
    ]
    assert (await append_at(store, 2, text="Three.")).index == 2


async def test_appending_to_a_dialogue_deleted_in_between_is_a_conflict(
    store: SessionStore, database: Database
) -> None:
    """A late writer does not bring an erased dialogue back."""
    await say(store, "Ann", "One.")
    tail = await store.tail("default", "call-42", "Ben", 5)
    await store.delete("default", "call-42")

    with pytest.raises(Conflict):
        await store.append(tail, text="Two.", label_space="meld", prediction=PREDICTION)

    assert await rows(database) == (0, 0)


async def test_twenty_writers_leave_no_gap_and_no_double(store: SessionStore) -> None:
    """Each line is stored once, whoever wins; speakers are numbered by first appearance."""
    texts = [f"line {n}" for n in range(20)]

    indexes = await asyncio.gather(
        *(say_until_stored(store, f"speaker {n % 7}", text) for n, text in enumerate(texts))
    )

    assert sorted(indexes) == list(range(20))
    timeline = (await store.timeline("default", "call-42")).utterances
    assert [u.index for u in timeline] == list(range(20))
    assert sorted(u.text for u in timeline) == sorted(texts)
    by_appearance = list(dict.fromkeys(u.speaker for u in timeline))
    assert [u.speaker_index for u in timeline] == [by_appearance.index(u.speaker) for u in timeline]


async def test_of_two_engines_that_race_for_one_index_one_wins(
    store: SessionStore, url: str
) -> None:
    """The database decides, not the process: for the first index as for a later one."""
    other = SessionStore(open_database(url))
    for index in range(3):
        outcomes = await asyncio.gather(
            *(append_at(rival, index) for rival in (store, other, store, other)),
            return_exceptions=True,
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == [
            "Conflict",
            "Conflict",
            "Conflict",
            "StoredUtterance",
        ]
    await other.close()

    assert [u.index for u in (await store.timeline("default", "call-42")).utterances] == [0, 1, 2]


async def test_a_deleted_dialogue_leaves_no_row(store: SessionStore, database: Database) -> None:
    """The utterances go with it, other dialogues stay, and the id is free again."""
    await say(store, "Ann", "One.", "gone")
    await say(store, "Ben", "Two.", "gone")
    await say(store, "Ann", "Here.", "kept")

    await store.delete("default", "gone")

    assert await rows(database) == (1, 1)
    with pytest.raises(DialogueNotFound):
        await store.timeline("default", "gone")
    assert (await say(store, "Ben", "Again.", "gone")).speaker_index == 0


async def test_a_deleted_text_is_gone_from_the_sqlite_files(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Erased means overwritten, in the file and in its log, while the service runs on."""
    database = open_database(sqlite_url)
    await migrate(database)
    store = SessionStore(database)

    def bytes_on_disk() -> bytes:
        return b"".join(file.read_bytes() for file in tmp_path.iterdir())

    await say(store, "Ann", "My door code is 4711. " * 500)
    await say(store, "Ann", "My door code is 4711.")
    tail = await store.tail("default", "call-42", "Ben", 2)
    role = "the locksmith's nephew"
    await store.append(tail, text="Thanks.", label_space="meld", prediction={}, role=role)
    assert b"door code" in bytes_on_disk()
    assert role.encode() in bytes_on_disk()

    await store.delete("default", "call-42")

    assert b"door code" not in bytes_on_disk()
    assert role.encode() not in bytes_on_disk()
    await store.close()


async def test_everything_is_there_after_closing_and_reopening(
    store: SessionStore, url: str
) -> None:
    """The dialogue goes on where it stopped."""
    await say(store, "Ann", "One.")
    before = await store.timeline("default", "call-42")
    await store.close()

    reopened = SessionStore(open_database(url))

    assert await reopened.timeline("default", "call-42") == before
    assert (await say(reopened, "Ben", "Two.")).speaker_index == 1
    await reopened.close()


async def test_an_append_cancelled_while_it_waits_is_stored_whole_or_not_at_all(
    store: SessionStore, database: Database, url: str
) -> None:
    """It leaves no lock either: the next writer finds the dialogue free."""
    await say(store, "Ann", "One.")
    hasty = SessionStore(open_database(url, command_timeout_s=PATIENT_S))
    async with transactional(database.engine).begin() as connection:
        await connection.execute(dialogues.update().values(length=dialogues.c.length))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(append_at(hasty, 1, text="Cancelled."), timeout=0.3)
    await hasty.close()

    _, stored = await rows(database)
    assert len((await store.timeline("default", "call-42")).utterances) == stored
    assert await say_until_stored(store, "Ann", "Two.") == stored


async def test_a_long_dialogue_is_erased_in_portions(
    store: SessionStore, database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others write in between; corrections, changes and kept answers go with it, to the last."""
    monkeypatch.setattr(erasure, "PORTION", 3)
    for n in range(8):
        key = Key("default", f"k-{n}", "hash")
        once: Once[StoredUtterance] = Once(key, lambda _: Answer(201, "said"))
        tail = await store.tail("default", "call-42", "Ann", 2)
        line = f"line {n}"
        await store.append(tail, text=line, label_space="meld", prediction={}, once=once)
        await store.corrections.put("default", "call-42", n, "meld", "joy")
    other = SessionStore(open_database(url))
    appended = 0

    async def say_meanwhile() -> None:
        nonlocal appended
        while True:
            await say(other, "Bo", "Hello.", "call-43")
            appended += 1

    writing = asyncio.create_task(say_meanwhile())
    while not appended:  # noqa: ASYNC110
        await asyncio.sleep(0)
    before = appended
    pending = await store.delete("default", "call-42")
    assert appended > before
    writing.cancel()
    await asyncio.wait([writing])

    assert len(pending) == 8
    assert await store.version("default", "call-42") is None
    for table in (utterances, corrections, changes):
        of_it = select(func.count()).where(table.c.dialogue_id == "call-42")
        assert (await database.fetch(of_it))[0][0] == 0
    left = await database.fetch(select(answers.c.body, answers.c.dialogue_id, answers.c.status))
    assert [tuple(row) for row in left] == [("", None, 410)] * 8
    await other.close()


async def test_what_is_half_erased_is_found_by_nobody(
    store: SessionStore, database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor written to, by whoever remembers its end, or begun anew before the rest has gone."""
    monkeypatch.setattr(erasure, "PORTION", 3)
    for n in range(8):
        await say(store, "Ann", f"line {n}")
    events = Events(database)
    start = await events.begin("default", "call-42")
    assert start is not None
    remembered = await store.tail("default", "call-42", "Ann", 8)
    writer = open_writer(database)
    step = await writer.erase_portion("default", "call-42")
    await writer.close()
    assert step is not None
    assert not step.whole

    other = SessionStore(open_database(url))
    assert await other.version("default", "call-42") is None
    assert await events.after("default", "call-42", start, 10) is None
    with pytest.raises(DialogueNotFound):
        await other.timeline("default", "call-42")
    with pytest.raises(DialogueNotFound):
        await other.stored_tail("default", "call-42", "Ann", 8)
    with pytest.raises(DialogueNotFound):
        await other.corrections.put("default", "call-42", 0, "meld", "joy")
    for tail in (remembered, await other.tail("default", "call-42", "Ann", 8)):
        with pytest.raises(Conflict):
            await other.append(tail, text="Hello.", label_space="meld", prediction={})

    await other.delete("default", "call-42")

    assert (await say(other, "Ann", "Hello.")).index == 0
    await other.close()


async def test_an_erasure_that_was_broken_off_goes_on_however_long_dialogues_are_kept(
    store: SessionStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others stay."""
    monkeypatch.setattr(erasure, "PORTION", 3)
    for n in range(8):
        await say(store, "Ann", f"line {n}")
    await say(store, "Bo", "Hello.", "call-43")
    writer = open_writer(database)
    await writer.erase_portion("default", "call-42")
    await writer.close()

    while await store.erase_before(erasure.BEGUN, 20):
        pass

    assert (await store.timeline("default", "call-43")).length == 1
    rows = await database.fetch(select(dialogues.c.id))
    assert [row.id for row in rows] == ["call-43"]


async def test_an_erasure_goes_on_when_its_caller_is_cancelled(
    store: SessionStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the whole dialogue or nothing that whoever comes back finds, also past the time that
    its request had.
    """
    monkeypatch.setattr(erasure, "PORTION", 1)
    for n in range(6):
        await say(store, "Ann", f"line {n}")

    async def erase() -> None:
        async with RequestDeadline(60):
            await store.delete("default", "call-42")

    erasing = asyncio.create_task(erase())
    while await store.version("default", "call-42") is not None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    erasing.cancel()
    await asyncio.wait([erasing])

    async with asyncio.timeout(PATIENT_S):
        while await database.fetch(select(dialogues.c.id)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_closing_waits_for_an_erasure_that_is_under_way(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the writer begin anew once it is closed."""
    monkeypatch.setattr(erasure, "PORTION", 1)
    before = set(threading.enumerate())
    database = open_database(url)
    await migrate(database)
    store = SessionStore(database)
    for n in range(6):
        await say(store, "Ann", f"line {n}")
    erasing = asyncio.create_task(store.delete("default", "call-42"))
    while await store.version("default", "call-42") is not None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    erasing.cancel()

    await store.close()

    begun = set(threading.enumerate()) - before
    assert "sqlite-writer" not in {thread.name for thread in begun}
    after = open_database(url)
    assert not await after.fetch(select(dialogues.c.id))
    await after.close()


async def test_long_dialogues_that_are_too_old_go_one_after_the_other(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction erases no more than a portion; in the end all of them are gone."""
    monkeypatch.setattr(erasure, "PORTION", 3)
    for name, count in (("a", 1), ("b", 1), ("c", 5), ("d", 2)):
        for n in range(count):
            await say(store, "Ann", f"line {n}", name)
    now = datetime.now(UTC)

    steps = []
    while erased := await store.erase_before(now, 20):
        steps.append([(each.dialogue_id, each.whole) for each in erased])

    assert steps == [[("a", True), ("b", True)], [("c", False)], [("c", True)], [("d", True)]]
