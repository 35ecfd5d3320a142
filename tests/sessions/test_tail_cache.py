"""What is remembered of the dialogues that spoke last is what is stored, and it is forgotten."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from service.conversation.dialogue import Line
from service.errors import DialogueNotFound
from service.sessions import tails
from service.sessions.database import Database, open_database
from service.sessions.idempotency import AnswerRow
from service.sessions.records import StoredUtterance
from service.sessions.store import Conflict, SessionStore
from service.sessions.tails import (
    DISTRUST_S,
    IDLE_S,
    SPEAKERS,
    DialogueEnd,
    Tail,
    TailCache,
    read_end,
)
from service.sessions.webhooks import WebhookRow
from service.sessions.writer import UtteranceRow


@pytest.fixture
async def elsewhere(database: Database, url: str) -> AsyncIterator[SessionStore]:
    """The store of another process on the same database: it shares no memory with `store`."""
    store = SessionStore(open_database(url))
    yield store
    await store.close()


async def append(store: SessionStore, tail: Tail, text: str) -> StoredUtterance:
    return (
        await store.append(tail, text=text, label_space="meld", prediction={"label": "joy"})
    ).utterance


async def say(
    store: SessionStore, text: str, speaker: str = "Ann", dialogue_id: str = "call-42"
) -> StoredUtterance:
    return await append(store, await store.tail("default", dialogue_id, speaker, lines=20), text)


async def say_until_stored(
    store: SessionStore, text: str, speaker: str = "Ann", dialogue_id: str = "call-42"
) -> int:
    """Returns the number of attempts."""
    attempts = 1
    while True:
        try:
            await say(store, text, speaker, dialogue_id)
        except Conflict:
            attempts += 1
        else:
            return attempts


@contextmanager
def counted_reads(database: Database) -> Iterator[list[str]]:
    """The statements that the engine carries out meanwhile."""
    statements: list[str] = []

    def count(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    event.listen(database.engine.sync_engine, "before_cursor_execute", count)
    yield statements
    event.remove(database.engine.sync_engine, "before_cursor_execute", count)


def remembered_texts() -> set[str]:
    """The text of every line in this process."""
    gc.collect()
    return {line.text for line in gc.get_objects() if type(line) is Line}


async def test_what_is_remembered_is_what_is_stored(
    store: SessionStore, database: Database
) -> None:
    """Whoever speaks next, and however many lines are asked for; 40 speakers are more than are
    remembered. Seed 7.
    """
    chance = random.Random(7)
    speakers = [f"speaker {n}" for n in range(40)]
    for number in range(120):
        few = speakers[: 1 + number // 3]
        tail = await store.tail("default", "call-42", chance.choice(few), chance.choice([2, 3, 20]))
        await append(store, tail, f"line {number}")
        for speaker in (chance.choice(speakers), "somebody new"):
            for lines in (0, 1, 3, 20):
                fresh = await SessionStore(database).tail("default", "call-42", speaker, lines)
                assert await store.tail("default", "call-42", speaker, lines) == fresh
                assert await store.stored_tail("default", "call-42", speaker, lines) == fresh


async def test_the_next_turn_of_a_dialogue_that_spoke_last_reads_nothing(
    store: SessionStore, database: Database
) -> None:
    """Neither for a speaker who was heard nor for one who was not."""
    await say(store, "One.")
    with counted_reads(database) as statements:
        await store.tail("default", "call-42", "Ann", 20)
        await store.tail("default", "call-42", "Ben", 20)
        await store.tail("default", "call-42", "Ben", 3)
    assert statements == []

    with counted_reads(database) as statements:
        # More than was remembered, had there been more.
        await store.tail("default", "call-42", "Ben", 21)
    assert statements == []


async def test_lines_beyond_what_is_remembered_are_read(store: SessionStore) -> None:
    """A longer window than before sees the lines before it."""
    for number in range(5):
        tail = await store.tail("default", "call-42", "Ann", 2)
        await append(store, tail, f"line {number}")

    tail = await store.tail("default", "call-42", "Ann", 4)

    assert [line.text for line in tail.lines] == ["line 1", "line 2", "line 3", "line 4"]


async def test_a_dialogue_that_went_on_elsewhere_is_read_again(
    store: SessionStore, elsewhere: SessionStore
) -> None:
    """The stale end is refused, and the next attempt sees what was said."""
    await say(store, "One.")
    await say(elsewhere, "Two.", "Ben")

    stale = await store.tail("default", "call-42", "Cem", 20)
    with pytest.raises(Conflict):
        await append(store, stale, "Three.")
    fresh = await store.tail("default", "call-42", "Cem", 20)

    assert fresh.lines == (Line(0, "One."), Line(1, "Two."))
    assert (await append(store, fresh, "Three.")).speaker_index == 2


async def test_a_stored_tail_is_never_what_is_remembered(
    store: SessionStore, elsewhere: SessionStore
) -> None:
    """What another process said is in it, and what another process erased is not."""
    await say(store, "One.")
    await say(elsewhere, "Two.", "Ben")

    tail = await store.stored_tail("default", "call-42", "Cem", 20)

    assert (tail.length, tail.speaker_index) == (2, 2)
    assert tail.lines == (Line(0, "One."), Line(1, "Two."))
    await elsewhere.delete("default", "call-42")
    with pytest.raises(DialogueNotFound):
        await store.stored_tail("default", "call-42", "Cem", 20)


async def test_a_turn_that_overtakes_a_stored_tail_is_what_is_remembered(
    store: SessionStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next turn goes on from it, from memory; the older end would be refused."""
    await say(store, "One.")

    async def overtaken(*arguments: Any) -> tuple[DialogueEnd, int]:
        end = await read_end(*arguments)
        await say(store, "Two.")
        return end

    monkeypatch.setattr("service.sessions.store.read_end", overtaken)
    assert (await store.stored_tail("default", "call-42", "Ann", 20)).length == 1

    with counted_reads(database) as statements:
        tail = await store.tail("default", "call-42", "Ann", 20)
    assert (statements, tail.length) == ([], 2)


async def test_an_append_behind_lines_that_are_not_remembered_is_not_remembered(
    store: SessionStore, elsewhere: SessionStore
) -> None:
    """Its tail was fresher than what this store had seen."""
    await say(store, "One.")
    await say(elsewhere, "Two.")
    await append(store, await elsewhere.tail("default", "call-42", "Ann", 20), "Three.")

    tail = await store.tail("default", "call-42", "Ann", 20)

    assert [line.text for line in tail.lines] == ["One.", "Two.", "Three."]


async def test_processes_that_take_turns_by_chance_label_in_vain_once(
    store: SessionStore, elsewhere: SessionStore
) -> None:
    """Each learns from its first stale end that it is not alone."""
    attempts = {store: 0, elsewhere: 0}
    for number in range(20):
        for place in (store, elsewhere):
            for dialogue_id in ("one", "two"):
                attempts[place] += await say_until_stored(
                    place, f"line {number}", dialogue_id=dialogue_id
                )

    assert all(attempts[place] in (40, 41) for place in attempts)
    assert len((await store.timeline("default", "two")).utterances) == 40


async def test_two_stores_that_write_at_once_leave_no_gap_and_no_double(
    store: SessionStore, elsewhere: SessionStore
) -> None:
    """In ten dialogues, each line is stored once and speakers are numbered by first appearance."""
    await asyncio.gather(
        *(
            say_until_stored(place, f"{name} {number}", f"{name} {number % 3}", f"call-{call}")
            for name, place in (("here", store), ("there", elsewhere))
            for number in range(8)
            for call in range(10)
        )
    )

    for call in range(10):
        utterances = (await store.timeline("default", f"call-{call}")).utterances
        assert [u.index for u in utterances] == list(range(16))
        assert {u.text for u in utterances} == {
            f"{n} {k}" for n in ("here", "there") for k in range(8)
        }
        by_appearance = list(dict.fromkeys(u.speaker for u in utterances))
        assert [u.speaker_index for u in utterances] == [
            by_appearance.index(u.speaker) for u in utterances
        ]


@pytest.mark.parametrize("remembers", [True, False])
async def test_a_dialogue_erased_and_begun_anew_elsewhere_shows_nothing_of_the_old_one(
    store: SessionStore, elsewhere: SessionStore, database: Database, remembers: bool
) -> None:
    """It is as long as before, but another one: what was labelled with erased lines is refused."""
    writer = store if remembers else SessionStore(database)
    await say(store, "My door code is 4711.")
    old = await writer.tail("default", "call-42", "Ben", 20)
    await elsewhere.delete("default", "call-42")
    await say(elsewhere, "Good morning.", "Cem")

    with pytest.raises(Conflict):
        await append(writer, old, "I noted it.")
    tail = await writer.tail("default", "call-42", "Ben", 20)

    assert tail.lines == (Line(0, "Good morning."),)
    assert tail.speaker_index == 1
    assert (await append(writer, tail, "Hello.")).index == 1
    await writer.close()


async def test_two_that_begin_the_same_dialogue_do_not_take_it_for_their_own(
    store: SessionStore, elsewhere: SessionStore
) -> None:
    """The one that loses goes on after the other's line, not beside it."""
    lost = await store.tail("default", "call-42", "Ann", 20)
    await say(elsewhere, "First.", "Ben")

    with pytest.raises(Conflict):
        await append(store, lost, "Me first!")

    assert (await store.tail("default", "call-42", "Ann", 20)).lines == (Line(0, "First."),)


async def test_an_erased_text_is_in_no_line_of_the_process(store: SessionStore) -> None:
    """Erasure is done when `delete` returns."""
    await say(store, "My door code is 4711.")
    assert "My door code is 4711." in remembered_texts()

    await store.delete("default", "call-42")

    assert "My door code is 4711." not in remembered_texts()


async def erase_amid_turns(store: SessionStore, number: int) -> None:
    dialogue_id, secret = f"call-{number}", f"My door code is {number}."
    await say(store, secret, dialogue_id=dialogue_id)
    under_way = [
        store.tail("default", dialogue_id, "Ben", 21),
        append(store, await store.tail("default", dialogue_id, "Ann", 22), secret),
        store.delete("default", dialogue_id),
        store.tail("default", dialogue_id, "Ben", 23),
    ]
    random.Random(number).shuffle(under_way)
    for outcome in await asyncio.gather(*under_way, return_exceptions=True):
        if isinstance(outcome, Exception) and not isinstance(outcome, Conflict):
            raise outcome


async def test_an_erased_text_stays_in_no_line_whatever_was_under_way(
    store: SessionStore, database: Database
) -> None:
    """Reads and appends that began before the erasure end after it, in any order; and none of it
    is taken for another process's work.
    """
    for number in range(40):
        await erase_amid_turns(store, number)
    await asyncio.sleep(0)  # until its next round the event loop holds what was just returned

    assert not [text for text in remembered_texts() if "door code" in text]
    await say(store, "One.")
    with counted_reads(database) as statements:
        await store.tail("default", "call-42", "Ann", 20)
    assert statements == []


async def test_an_erasure_that_overtakes_an_append_is_no_sign_of_another_process(
    store: SessionStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PostgreSQL's connections may let it; what else is remembered stays."""
    await say(store, "Kept.", dialogue_id="other")
    await say(store, "One.")
    write = store._writer.append

    async def overtaken(
        row: UtteranceRow, answer: AnswerRow | None, webhooks: Sequence[WebhookRow]
    ) -> int | None:
        await store.delete(row["tenant"], row["dialogue_id"])
        return await write(row, answer, webhooks)

    monkeypatch.setattr(store._writer, "append", overtaken)
    with pytest.raises(Conflict):
        await say(store, "Two.")

    with counted_reads(database) as statements:
        await store.tail("default", "other", "Ann", 20)
    assert statements == []


async def test_an_append_that_fails_is_forgotten(store: SessionStore, database: Database) -> None:
    """Whether it was stored is not known: the next turn reads."""
    await say(store, "One.")
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("ALTER TABLE utterances RENAME TO away")
    with pytest.raises(Exception, match="cannot carry out the statement"):
        await say(store, "Two.")
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("ALTER TABLE away RENAME TO utterances")

    with counted_reads(database) as statements:
        tail = await store.tail("default", "call-42", "Ann", 20)

    assert len(statements) == 1
    assert tail.lines == (Line(0, "One."),)


def an_end(text: str = "Hello.", lines: int = 1, **speakers: int) -> DialogueEnd:
    speakers = speakers or {"Ann": 0}
    tail = tuple(Line(0, text) for _ in range(lines))
    return DialogueEnd(7, lines, tail, 20, speakers, len(speakers))


@pytest.mark.parametrize(("text", "lines"), [("Hm.", 20), ("x" * 2_000, 20), ("", 0)])
def test_memory_is_bounded_and_the_dialogues_idle_longest_go(text: str, lines: int) -> None:
    """By what the lines take, however long they are and however many dialogues there are."""
    room = 1_000_000
    dialogues = TailCache(room)
    for number in range(3_000):
        dialogues.keep(("default", f"call-{number}"), an_end(text, lines), 0)

    kept = [n for n in range(3_000) if dialogues.find(("default", f"call-{n}")) is not None]

    assert kept == list(range(3_000 - len(kept), 3_000))
    assert len(kept) * lines * len(text) <= room
    assert 20 <= len(kept) <= room // 1_000


def test_a_dialogue_that_speaks_is_not_idle() -> None:
    """An end that is kept again is the youngest, and takes its room once."""
    dialogues = TailCache(10_000)
    for number in range(100):
        dialogues.keep(("default", "busy"), an_end(lines=number % 5), 0)
        dialogues.keep(("default", f"call-{number}"), an_end(), 0)

    assert dialogues.find(("default", "busy")) is not None
    assert dialogues.find(("default", "call-97")) is not None


def test_nothing_is_remembered_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text that another process erased is gone some minutes later."""
    now = 1_000.0
    monkeypatch.setattr(tails, "monotonic", lambda: now)
    dialogues = TailCache()
    dialogues.keep(("default", "old"), an_end(), 0)
    now += IDLE_S - 1
    dialogues.keep(("default", "young"), an_end(), 0)
    assert dialogues.find(("default", "old")) is not None
    now += 1

    dialogues.keep(("default", "new"), an_end(), 0)

    assert dialogues.find(("default", "old")) is None
    assert dialogues.find(("default", "young")) is not None


def test_nothing_is_remembered_for_long_where_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Text that another process has erased goes from one that has nothing to do."""
    now = 1000.0
    monkeypatch.setattr(tails, "monotonic", lambda: now)
    memory = TailCache()
    memory.keep(("default", "a"), an_end(), 0)
    now += IDLE_S - 1
    memory.forget_idle()
    assert memory.find(("default", "a")) is not None
    now += 1
    memory.forget_idle()
    assert memory.find(("default", "a")) is None


def test_what_was_read_before_an_erasure_is_not_kept_after_it() -> None:
    """It may be what was erased."""
    dialogues = TailCache()
    erasures = dialogues.erasures
    dialogues.erase(("default", "call-42"))

    dialogues.keep(("default", "call-42"), an_end(), erasures)

    assert dialogues.find(("default", "call-42")) is None


def test_once_distrusted_nothing_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is stale as likely as the one that was."""
    now = 1_000.0
    monkeypatch.setattr(tails, "monotonic", lambda: now)
    dialogues = TailCache()
    dialogues.keep(("default", "one"), an_end(), 0)
    dialogues.distrust()
    now += DISTRUST_S - 1
    dialogues.keep(("default", "two"), an_end(), 0)
    assert dialogues.find(("default", "one")) is None
    assert dialogues.find(("default", "two")) is None
    now += 1

    dialogues.keep(("default", "three"), an_end(), 0)

    assert dialogues.find(("default", "three")) is not None


def test_a_speaker_is_somebody_new_only_where_all_are_known() -> None:
    """Of more speakers than are remembered, those who spoke last are."""
    end = an_end(lines=0)
    assert end.number_of("Ben") == 1
    for number in range(1, SPEAKERS + 5):
        end = end.grown(f"speaker {number}", Line(number, "Hm."))
        end = end.grown("Ann", Line(0, "Hm."))

    assert end.number_of("Ann") == 0
    assert end.number_of("speaker 36") == 36
    assert end.number_of("speaker 1") is None
    assert end.number_of("Ben") is None
    assert len(end.speakers) == SPEAKERS
    assert (end.length, len(end.lines), end.speaker_count) == (2 * (SPEAKERS + 4), 20, 37)
