"""An answer is kept with what it answers, once, whoever is asked."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from service.errors import (
    DatabaseUnavailable,
    DialogueErased,
    DialogueNotFound,
    IdempotencyKeyReused,
    TooManyAnswers,
)
from service.sessions.database import Database, open_database
from service.sessions.idempotency import AlreadyAnswered, Answer, Key, Once
from service.sessions.records import StoredUtterance
from service.sessions.schema import answers
from service.sessions.store import Conflict, SessionStore

KEY = Key("default", "k-1", "hash")


def once(key: Key = KEY) -> Once[StoredUtterance]:
    return Once(key, lambda stored: Answer(201, f'"{stored.text}"'))


async def say(store: SessionStore, text: str, key: Key = KEY, name: str = "call-42") -> None:
    tail = await store.tail("default", name, "Ann", 2)
    await store.append(tail, text=text, label_space="meld", prediction={}, once=once(key))


async def length(store: SessionStore, name: str = "call-42") -> int:
    return len((await store.timeline("default", name)).utterances)


async def test_an_answer_is_kept_with_the_utterance(store: SessionStore) -> None:
    """The first of a dialogue, and a later one."""
    assert await store.answers.find(KEY) is None

    await say(store, "One.")
    await say(store, "Two.", replace(KEY, value="k-2"))

    assert await store.answers.find(KEY) == Answer(201, '"One."')
    assert await store.answers.find(replace(KEY, value="k-2")) == Answer(201, '"Two."')
    assert await store.answers.find(replace(KEY, tenant="other")) is None
    with pytest.raises(IdempotencyKeyReused):
        await store.answers.find(replace(KEY, request="other"))


async def test_an_utterance_whose_key_has_an_answer_is_not_stored(store: SessionStore) -> None:
    """In whichever dialogue; whoever asked is told what was answered."""
    await say(store, "One.")

    for name in ("call-42", "call-43"):
        with pytest.raises(Conflict):
            await say(store, "Again.", name=name)
    with pytest.raises(AlreadyAnswered) as told:
        await store.answers.raise_if_answered(once())

    assert told.value.answer == Answer(201, '"One."')
    assert await length(store) == 1
    with pytest.raises(DialogueNotFound):
        await store.timeline("default", "call-43")


async def test_of_processes_asked_the_same_at_once_one_writes(
    store: SessionStore, url: str
) -> None:
    """In one dialogue, or where a client sent the key twice, in several."""
    others = [SessionStore(open_database(url)) for _ in range(3)]
    for names in (["a"] * 4, ["b", "c", "d", "e"]):
        key = replace(KEY, value=names[0])
        outcomes = await asyncio.gather(
            *(say(s, "Me!", key, n) for s, n in zip([store, *others], names, strict=True)),
            return_exceptions=True,
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == [
            *["Conflict"] * 3,
            "NoneType",
        ]
    for other in others:
        await other.close()


async def test_an_answer_that_cannot_be_kept_leaves_no_utterance(
    store: SessionStore, database: Database
) -> None:
    """Both or none."""
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("ALTER TABLE answers RENAME TO away")
    with pytest.raises(DatabaseUnavailable):
        await say(store, "One.")

    with pytest.raises(DialogueNotFound):
        await store.timeline("default", "call-42")


async def test_an_erasure_keeps_its_answer_and_of_the_dialogues_the_keys(
    store: SessionStore, database: Database
) -> None:
    """Asked again by another process, it is told; a late request does not begin it anew."""
    await say(store, "One.")
    erasure: Once[None] = Once(replace(KEY, value="k-2"), lambda _: Answer(204))

    await store.delete("default", "call-42", once=erasure)

    with pytest.raises(DialogueErased):
        await store.answers.find(KEY)
    [left] = await database.fetch(select(answers).where(answers.c.key == KEY.value))
    assert (left.request, left.body, left.location, left.dialogue_id) == ("", "", None, None)
    with pytest.raises(AlreadyAnswered) as told:
        await store.delete("default", "call-42", once=erasure)
    assert told.value.answer == Answer(204)


async def test_of_two_answers_to_one_request_the_first_is_kept(store: SessionStore) -> None:
    """As where two processes write the same demonstrations."""
    await store.answers.keep(KEY, Answer(201, "1"))

    with pytest.raises(AlreadyAnswered) as told:
        await store.answers.keep(KEY, Answer(201, "2"))

    assert told.value.answer == Answer(201, "1")


async def test_old_answers_are_erased_oldest_first(store: SessionStore, database: Database) -> None:
    """As many at a time as are asked for; a younger one stays."""
    now = datetime.now(UTC)
    for n in range(4):
        await store.answers.keep(replace(KEY, value=f"k-{n}"), Answer(204))
        async with database.engine.connect() as connection:
            made = update(answers).where(answers.c.key == f"k-{n}")
            await connection.execute(made.values(created_at=now - timedelta(hours=n)))

    assert await store.answers.erase_before(now - timedelta(minutes=1), limit=2) == 2
    left = [n for n in range(4) if await store.answers.find(replace(KEY, value=f"k-{n}"))]
    assert left == [0, 1]
    assert await store.answers.erase_before(now - timedelta(minutes=1), limit=2) == 1


async def test_an_answer_says_where_what_was_made_is(store: SessionStore) -> None:
    """On either database, with what was written."""
    tail = await store.tail("default", "call-42", "Ann", 2)
    for _ in range(2):
        key = replace(KEY, value=f"k-{tail.length}")
        made: Once[StoredUtterance] = Once(key, lambda _: Answer(201, "{}", "/here"))
        await store.append(tail, text="Hi.", label_space="meld", prediction={}, once=made)

        assert await store.answers.find(key) == Answer(201, "{}", "/here")
        tail = await store.tail("default", "call-42", "Ann", 2)


async def test_a_tenant_has_so_many_answers_kept(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one's are not counted."""
    monkeypatch.setattr("service.sessions.idempotency._COUNTED_FULL_S", 0)
    for n in range(3):
        async with store.answers.room("default", 3):
            pass
        await store.answers.keep(replace(KEY, value=f"k-{n}"), Answer(204))

    with pytest.raises(TooManyAnswers):
        async with store.answers.room("default", 3):
            pass
    async with store.answers.room("other", 3):
        pass
    await store.answers.erase_before(datetime.now(UTC), 1)
    async with store.answers.room("default", 3):
        pass


async def test_an_answer_is_amended_while_it_is_kept(store: SessionStore) -> None:
    """One that is not there, or another request's, is left alone."""
    await store.answers.keep(KEY, Answer(200, "first"))

    await store.answers.amend(KEY, Answer(200, "second"))
    await store.answers.amend(replace(KEY, request="other"), Answer(200, "third"))
    await store.answers.amend(replace(KEY, value="k-2"), Answer(200, "fourth"))

    assert await store.answers.find(KEY) == Answer(200, "second")
    assert await store.answers.find(replace(KEY, value="k-2")) is None
