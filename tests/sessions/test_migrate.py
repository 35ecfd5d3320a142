"""The versions make the tables that the code expects."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, select, text
from sqlalchemy.schema import CreateIndex, CreateTable

from service.conversation.derived import load_derived_label_spaces
from service.conversation.labels import load_label_spaces
from service.conversation.valence import valences_of
from service.sessions.database import Database, open_database
from service.sessions.engines import transactional
from service.sessions.events import Events
from service.sessions.idempotency import Key
from service.sessions.jobs import Jobs
from service.sessions.migrate import migrate
from service.sessions.progress import part_of
from service.sessions.schema import (
    VERSION_TABLE,
    answers,
    dialogue_labels,
    dialogues,
    job_results,
    jobs,
    metadata,
    utterance_counts,
    utterances,
)
from service.sessions.store import Conflict, SessionStore

summaries_version = import_module("service.sessions.migrations.versions.0013_summaries")

ROOT = Path(__file__).parents[2]

# Imports first, then waits for the word, so that the migrations meet.
MIGRATE = """
import asyncio, sys
from service.sessions.database import open_database
from service.sessions.migrate import migrate
input()
asyncio.run(migrate(open_database(sys.argv[1])))
"""


def differences(connection: Connection) -> list[Any]:
    options = {"version_table": VERSION_TABLE, "compare_server_default": True}
    changes: list[Any] = compare_metadata(
        MigrationContext.configure(connection, opts=options), metadata
    )
    return changes


def statements(connection: Connection) -> list[str]:
    """The database's own tables and indexes, as SQL."""
    reflected = MetaData()
    reflected.reflect(connection, only=list(metadata.tables))
    made: list[CreateTable | CreateIndex] = []
    for table in reflected.sorted_tables:
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        made += [CreateTable(table), *map(CreateIndex, indexes)]
    return [str(statement.compile(dialect=connection.dialect)) for statement in made]


def upgrade(connection: Connection, version: str) -> None:
    config = Config()
    config.set_main_option("script_location", "service.sessions:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, version)


async def test_the_versions_end_where_the_schema_is(database: Database) -> None:
    """Alembic would generate nothing more."""
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_the_versions_make_what_the_schema_makes(database: Database) -> None:
    """Keys, constraints and their names too, which Alembic does not compare."""
    async with transactional(database.engine).begin() as connection:
        migrated = await connection.run_sync(statements)
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
        assert await connection.run_sync(statements) == migrated


async def test_a_second_migration_changes_nothing(database: Database) -> None:
    """Every start of the service migrates; dialogues stay."""
    store = SessionStore(database)
    tail = await store.tail("default", "d", "Ann", lines=2)
    await store.append(tail, text="Hi.", label_space="meld", prediction={})

    await migrate(database)

    assert len((await store.timeline("default", "d")).utterances) == 1


async def test_dialogues_of_the_first_version_go_on(url: str) -> None:
    """What was stored stays, the next line follows it, and an erased one's id is another's. It was
    last written when its last line was, and belongs to the tenant of those who have no key.
    """
    database = open_database(url)
    async with transactional(database.engine).begin() as connection:
        await connection.run_sync(upgrade, "0001")
        for row in (
            "dialogues VALUES ('old', '2026-01-02 03:04:05+00', 1, 1)",
            "utterances VALUES ('old', 0, 'Ann', 0, 'Hi.', 'meld', '{}', '2026-02-03 04:05:06+00')",
        ):
            await connection.exec_driver_sql(f"INSERT INTO {row}")

    await migrate(database)

    async with database.engine.connect() as connection:
        (changed_at,) = (await connection.execute(select(dialogues.c.changed_at))).scalars()
    assert changed_at == datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    store = SessionStore(database)
    before = await store.tail("default", "old", "Ann", lines=2)
    timed: dict[str, Any] = {"start": 1.5, "end": 2.25, "role": "agent"}
    await store.append(before, text="Still me.", label_space="meld", prediction={}, **timed)
    utterances = (await store.timeline("default", "old")).utterances
    assert [(u.text, u.description, u.start, u.end, u.role) for u in utterances] == [
        ("Hi.", None, None, None, None),
        ("Still me.", None, 1.5, 2.25, "agent"),
    ]
    await store.delete("default", "old")
    anew = await store.tail("default", "old", "Ann", lines=2)
    await store.append(anew, text="Anew.", label_space="meld", prediction={})
    with pytest.raises(Conflict):
        await store.append(before, text="Late.", label_space="meld", prediction={})
    await store.close()


async def test_what_was_written_before_versions_were_noted_has_an_order(url: str) -> None:
    """Utterances first, then the corrections; what is written next comes after both."""
    database = open_database(url)
    async with transactional(database.engine).begin() as connection:
        await connection.run_sync(upgrade, "0006")
        moment = "'2026-01-02 03:04:05+00'"
        for row in (
            f"dialogues (tenant, id, created_at, changed_at, length, speaker_count)"
            f" VALUES ('one', 'd', {moment}, {moment}, 1, 1)",
            f'utterances (tenant, dialogue_id, "index", speaker, speaker_index, text,'
            f" label_space, prediction, created_at)"
            f" VALUES ('one', 'd', 0, 'Ann', 0, 'Hi.', 'meld', '{{}}', {moment})",
            f"corrections VALUES ('one', 'd', 0, 'meld', 'joy', {moment}, 'c1')",
        ):
            await connection.exec_driver_sql(f"INSERT INTO {row}")

    await migrate(database)

    store, events = SessionStore(database), Events(database)
    await store.append(
        await store.tail("one", "d", "Bo", 2), text="Ho.", label_space="meld", prediction={}
    )
    start = await events.begin("one", "d")
    assert start is not None
    events_read = await events.after("one", "d", start, 10)
    assert events_read is not None
    assert [(each.version.number, each.what.index) for each in events_read] == [
        (1, 0),
        (2, 0),
        (3, 1),
    ]
    await store.close()


async def test_of_many_predictions_each_loses_the_texts(url: str) -> None:
    """More than are in memory at once."""
    database = open_database(url)
    turn = json.dumps({"demonstrations": [SHOWN]})
    async with transactional(database.engine).begin() as connection:
        await connection.run_sync(upgrade, "0008")
        moment = "'2026-01-02 03:04:05+00'"
        for row in (
            f"dialogues (tenant, id, created_at, changed_at, length, speaker_count)"
            f" VALUES ('one', 'd', {moment}, {moment}, 1100, 1)",
            *(
                f'utterances (tenant, dialogue_id, "index", speaker, speaker_index, text,'
                f" label_space, prediction, created_at)"
                f" VALUES ('one', 'd', {n}, 'Ann', 0, 'Hi.', 'meld', '{turn}', {moment})"
                for n in range(1100)
            ),
        ):
            await connection.exec_driver_sql(f"INSERT INTO {row}")

    await migrate(database)

    rows = await database.fetch(select(utterances.c.prediction))
    assert [row.prediction for row in rows] == [{"demonstrations": [UNSHOWN]}] * 1100
    await database.close()


async def test_the_versions_are_found_from_any_folder(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed service starts elsewhere than in its sources."""
    monkeypatch.chdir(tmp_path)
    database = open_database(url)

    await migrate(database)

    await SessionStore(database).ping()
    await database.close()


async def test_processes_that_start_together_migrate_once(url: str) -> None:
    """On an empty database each of them ends with the tables in place."""
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", MIGRATE, url, cwd=ROOT, stdin=PIPE, stderr=PIPE
        )
        for _ in range(3)
    ]
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))

    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    database = open_database(url)
    await SessionStore(database).ping()
    await database.close()


async def test_engines_of_one_process_that_start_together_migrate_once(url: str) -> None:
    """The database's lock holds between tasks as it does between processes."""
    databases = [open_database(url) for _ in range(3)]

    await asyncio.gather(*map(migrate, databases))

    for database in databases:
        await SessionStore(database).ping()
        await database.close()


SHOWN = {
    "id": "correction-1",
    "text": "A\u2028secret\x85 that is gone",
    "label": "joy",
    "similarity": 0.3775548040866852,
}
UNSHOWN = {name: value for name, value in SHOWN.items() if name != "text"}


@pytest.mark.parametrize("escaped", [False, True])
async def test_demonstrations_lose_their_texts_wherever_they_were_stored(
    url: str, escaped: bool
) -> None:
    """In predictions, results and kept answers; whatever Unicode takes for the end of a line."""

    def stored(answer: Any) -> str:
        return json.dumps(answer, ensure_ascii=escaped)

    answer = {"emotion": {"label": "joy", "confidence": 1e-07}, "demonstrations": [SHOWN]}
    line = {"line": 1, "id": "a", "utterances": [{"index": 0, **answer}]}
    broken = {"line": 2, "error": {"detail": "in \u2028 two"}}
    database = open_database(url)
    async with transactional(database.engine).begin() as connection:
        await connection.run_sync(upgrade, "0008")
        now = datetime.now(UTC)
        await connection.execute(
            dialogues.insert().values(
                tenant="one", id="d", generation=5, version=1, created_at=now, changed_at=now,
                length=1, speaker_count=1,
            )
        )  # fmt: skip
        await connection.execute(
            text(
                'INSERT INTO utterances (tenant, dialogue_id, "index", speaker, speaker_index,'
                " text, label_space, prediction, created_at, version) VALUES"
                " ('one', 'd', 0, 'Ann', 0, 'Hi.', 'meld', CAST(:found AS JSON),"
                " '2026-01-02 03:04:05+00', 1)"
                if database.dialect == "postgresql"
                else 'INSERT INTO utterances (tenant, dialogue_id, "index", speaker, speaker_index,'
                " text, label_space, prediction, created_at, version) VALUES"
                " ('one', 'd', 0, 'Ann', 0, 'Hi.', 'meld', :found, '2026-01-02 03:04:05', 1)"
            ),
            {"found": stored(answer)},
        )
        await connection.execute(
            jobs.insert().values(
                id="j", tenant="one", label_space="meld", created_at=now, dialogues=2, done=2,
                failed=1,
            )
        )  # fmt: skip
        await connection.execute(
            job_results.insert().values(
                job_id="j", number=0, results=f"{stored(line)}\n{stored(broken)}\n"
            )
        )
        await connection.execute(
            answers.insert().values(
                tenant="one", key="k", request="r", status=200, created_at=now,
                body=stored({"results": [{"id": "a", "utterances": [answer]}]}),
            )
        )  # fmt: skip

    await migrate(database)

    store = SessionStore(database)
    (utterance,) = (await store.timeline("one", "d")).utterances
    assert utterance.prediction == answer | {"demonstrations": [UNSHOWN]}
    results = await Jobs(database).results("j", -1)
    assert results is not None
    lines = [json.loads(each) for each in results[1].split("\n")[:-1]]
    shown = {"index": 0, **answer, "demonstrations": [UNSHOWN]}
    assert lines == [line | {"utterances": [shown]}, broken]
    kept = await store.answers.find(Key("one", "k", "r"))
    assert kept is not None
    assert json.loads(kept.body)["results"][0]["utterances"][0]["demonstrations"] == [UNSHOWN]
    await store.close()


async def test_what_was_written_before_summaries_is_summed_up(url: str) -> None:
    """As if it had been written with its figures, corrections included."""
    database = open_database(url)
    answers_of = [
        {"label": "joy", "confidence": 0.9, "probabilities": {"joy": 0.9, "anger": 0.1}},
        {"label": "anger", "confidence": 0.6, "probabilities": {"anger": 0.6, "neutral": 0.4}},
        {"label": "anger", "confidence": 0.7, "probabilities": {"anger": 0.7, "joy": 0.3}},
    ]
    moment = "'2026-01-02 03:04:05+00'"
    async with transactional(database.engine).begin() as connection:
        await connection.run_sync(upgrade, "0011")
        rows = [
            f"dialogues (tenant, id, created_at, changed_at, length, speaker_count)"
            f" VALUES ('one', 'd', {moment}, {moment}, 3, 1)"
        ]
        for index, emotion in enumerate(answers_of):
            prediction = json.dumps({"emotion": {"label_space": "meld", **emotion}})
            rows.append(
                f'utterances (tenant, dialogue_id, "index", speaker, speaker_index, text,'
                f" label_space, prediction, created_at)"
                f" VALUES ('one', 'd', {index}, 'Ann', 0, 'Hi.', 'meld', '{prediction}', {moment})"
            )
        rows.append(f"corrections VALUES ('one', 'd', 2, 'meld', 'surprise', {moment}, 'c1')")
        for row in rows:
            await connection.exec_driver_sql(f"INSERT INTO {row}")

    await migrate(database)

    async with database.engine.connect() as connection:
        sums = (await connection.execute(select(dialogues))).one()
        labels = (await connection.execute(select(dialogue_labels))).all()
        lines = (await connection.execute(select(utterances).order_by(utterances.c.index))).all()
        counts = (await connection.execute(select(utterance_counts))).all()
    assert (sums.valence_count, sums.valence_total) == (3, 800_000 - 600_000 - 20_000)
    assert (sums.first_count, sums.first_total) == (1, 800_000)
    assert (sums.last_count, sums.last_total) == (1, -20_000)
    assert (sums.valence, sums.shift) == (0.18 / 3, -0.82)
    of_labels = {(row.label, row._mapping["count"], row.probability) for row in labels}
    assert of_labels == {("joy", 1, 0.9), ("anger", 1, 0.6), ("surprise", 1, 1.0)}
    assert [row.margin for row in lines] == pytest.approx([0.8, 0.2, 0.4])
    assert [row.corrected for row in lines] == [False, False, True]
    assert [tuple(row) for row in counts] == [("one", "meld", part_of("d"), 3, 1)]
    await database.close()


def test_migrated_valences_are_those_of_the_shipped_label_spaces() -> None:
    """As long as the label spaces are as they were at that version."""
    folder = ROOT / "data" / "label_spaces"
    shipped = valences_of(load_derived_label_spaces(folder, load_label_spaces(folder)))

    assert summaries_version._WEIGHTS.keys() == shipped.weights.keys()
    for name, weights in shipped.weights.items():
        assert summaries_version._WEIGHTS[name] == pytest.approx(dict(weights))
