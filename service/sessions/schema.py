"""The tables of the durable dialogues, and how statements on them are made for each database.

A change of a table needs a new file in `migrations/versions`; a test compares the two. SQLite and
PostgreSQL take upserts, and statements that are compiled once, in forms of their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    BindParameter,
    Boolean,
    ClauseElement,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    bindparam,
    false,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.compiler import SQLCompiler

# Alembic's own table; not its default name, which another program in the database may use.
VERSION_TABLE = "sessions_version"


class UtcTime(TypeDecorator[datetime]):
    """A moment, always in UTC; SQLite itself keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored moment needs a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

dialogues = Table(
    "dialogues",
    metadata,
    Column("id", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    # The number of utterances, which is the next one's index. Below 0: of those still to be erased.
    Column("length", Integer, nullable=False),
    # The number of different speakers, which is the next new speaker's index.
    Column("speaker_count", Integer, nullable=False),
    # Random: tells the dialogue from one that was erased and had the same id.
    Column("generation", BigInteger, nullable=False, server_default="0"),
    # Whose it is; the id is the tenant's own.
    Column("tenant", Text, nullable=False),
    # Grows with every write.
    Column("version", Integer, nullable=False, server_default="0"),
    # The moment of the last write.
    Column("changed_at", UtcTime, nullable=False, index=True),
    # `service.conversation.summaries.Tally`, corrections included: valences in millionths.
    Column("valence_count", Integer, nullable=False, server_default="0"),
    Column("valence_total", BigInteger, nullable=False, server_default="0"),
    Column("first_count", Integer, nullable=False, server_default="0"),
    Column("first_total", BigInteger, nullable=False, server_default="0"),
    Column("last_count", Integer, nullable=False, server_default="0"),
    Column("last_total", BigInteger, nullable=False, server_default="0"),
    # The tally's mean, and its shift; lists are sorted by them.
    Column("valence", Double),
    Column("shift", Double),
    PrimaryKeyConstraint("tenant", "id"),
    # Each yields the order of a list.
    Index(None, "tenant", "changed_at", "id"),
    Index(None, "tenant", "valence", "id"),
    Index(None, "tenant", "shift", "id"),
)

utterances = Table(
    "utterances",
    metadata,
    Column("dialogue_id", Text, nullable=False),
    Column("index", Integer, nullable=False, autoincrement=False),
    Column("speaker", Text, nullable=False),
    Column("speaker_index", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("label_space", Text, nullable=False),
    # JSON, not JSONB: numbers and the order of keys stay as written.
    Column("prediction", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("description", Text),
    Column("tenant", Text, nullable=False),
    # The dialogue's, when it was written.
    Column("version", Integer, nullable=False, server_default="0"),
    # Seconds from the dialogue's beginning.
    Column("start", Double),
    Column("end", Double),
    Column("role", Text),
    # The prediction's label and its probability; null where the prediction has none.
    Column("label", Text),
    Column("probability", Double),
    # The prediction's, in millionths; null where its label space has none.
    Column("valence", Integer),
    # How far the prediction's highest probability is above the next; null where it has none.
    Column("margin", Double),
    # Whether `corrections` has a row of it.
    Column("corrected", Boolean, nullable=False, server_default=false()),
    PrimaryKeyConstraint("tenant", "dialogue_id", "index"),
    ForeignKeyConstraint(
        ["tenant", "dialogue_id"], ["dialogues.tenant", "dialogues.id"], ondelete="CASCADE"
    ),
    # Each yields the order of a list.
    *(
        Index(
            f"ix_utterances_{name}",
            *("tenant", "label_space", "corrected", name, "dialogue_id", "index"),
            sqlite_where=text("margin IS NOT NULL"),
            postgresql_where=text("margin IS NOT NULL"),
        )
        for name in ("margin", "created_at")
    ),
    # Finds a speaker's index without reading the dialogue.
    Index(None, "tenant", "dialogue_id", "speaker", "speaker_index"),
    # Finds out whether a dialogue has a role without reading it.
    Index(
        None,
        "tenant",
        "dialogue_id",
        "role",
        sqlite_where=text("role IS NOT NULL"),
        postgresql_where=text("role IS NOT NULL"),
    ),
)

# The answers to requests with an idempotency key.
answers = Table(
    "answers",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("key", Text, nullable=False),
    # A hash of the request.
    Column("request", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("location", Text),
    Column("created_at", UtcTime, nullable=False, index=True),
    # The dialogue with which the answer is erased.
    Column("dialogue_id", Text),
    PrimaryKeyConstraint("tenant", "key"),
    ForeignKeyConstraint(
        ["tenant", "dialogue_id"], ["dialogues.tenant", "dialogues.id"], ondelete="CASCADE"
    ),
    Index(None, "tenant", "dialogue_id"),
)

# The labels that people give utterances.
corrections = Table(
    "corrections",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("dialogue_id", Text, nullable=False),
    Column("index", Integer, nullable=False, autoincrement=False),
    Column("label_space", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    # The demonstration made of it, among the tenant's own.
    Column("demonstration_id", Text, nullable=False),
    # The label's, in millionths; null where its label space has none.
    Column("valence", Integer),
    PrimaryKeyConstraint("tenant", "dialogue_id", "index"),
    ForeignKeyConstraint(
        ["tenant", "dialogue_id", "index"],
        ["utterances.tenant", "utterances.dialogue_id", "utterances.index"],
        ondelete="CASCADE",
    ),
    Index(None, "tenant", "demonstration_id", unique=True),
)

# The changes of the corrections, one after the other; no label: the correction was taken back.
changes = Table(
    "changes",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("dialogue_id", Text, nullable=False),
    # The dialogue's, when it was written.
    Column("version", Integer, nullable=False, autoincrement=False),
    Column("index", Integer, nullable=False),
    Column("label_space", Text),
    Column("label", Text),
    Column("created_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("tenant", "dialogue_id", "version"),
    ForeignKeyConstraint(
        ["tenant", "dialogue_id"], ["dialogues.tenant", "dialogues.id"], ondelete="CASCADE"
    ),
)

# How often each label occurs in a dialogue, corrections included.
dialogue_labels = Table(
    "dialogue_labels",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("dialogue_id", Text, nullable=False),
    # That of the answers; a correction in another one does not count.
    Column("label_space", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("count", Integer, nullable=False),
    # The highest that an utterance with the label has.
    Column("probability", Double, nullable=False),
    PrimaryKeyConstraint("tenant", "dialogue_id", "label_space", "label"),
    ForeignKeyConstraint(
        ["tenant", "dialogue_id"], ["dialogues.tenant", "dialogues.id"], ondelete="CASCADE"
    ),
)

# How many utterances with a margin there are, and how many of them are corrected. The counts are in
# parts, each of some dialogues, so that few writers wait for each other.
utterance_counts = Table(
    "utterance_counts",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("label_space", Text, nullable=False),
    Column("part", Integer, nullable=False, autoincrement=False),
    Column("utterances", Integer, nullable=False),
    Column("corrected", Integer, nullable=False),
    PrimaryKeyConstraint("tenant", "label_space", "part"),
)

# Demonstrations that may differ from their corrections; those without a correction are to go.
deliveries = Table(
    "deliveries",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("demonstration_id", Text, nullable=False),
    # Random; new whenever the delivery is noted again.
    Column("mark", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "demonstration_id"),
)

# Batches that are scored in the background.
jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, nullable=False),
    Column("tenant", Text, nullable=False, index=True),
    Column("label_space", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    # How many there are; null until all of them have been received.
    Column("dialogues", Integer),
    Column("done", Integer, nullable=False),
    # Those of them that have an error.
    Column("failed", Integer, nullable=False),
    PrimaryKeyConstraint("id"),
)

# The portions of them that are still to be scored, and the process that has claimed each.
job_work = Table(
    "job_work",
    metadata,
    Column("job_id", Text, nullable=False),
    Column("number", Integer, nullable=False, autoincrement=False),
    # JSON.
    Column("dialogues", Text, nullable=False),
    # Random; new whenever the portion is claimed.
    Column("owner", Text),
    Column("leased_until", UtcTime),
    PrimaryKeyConstraint("job_id", "number"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
)

# The results of the portions that are scored, under the same numbers.
job_results = Table(
    "job_results",
    metadata,
    Column("job_id", Text, nullable=False),
    Column("number", Integer, nullable=False, autoincrement=False),
    # Lines of JSON.
    Column("results", Text, nullable=False),
    PrimaryKeyConstraint("job_id", "number"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
)

# Label spaces of tenants' own.
label_spaces = Table(
    "label_spaces",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    # Random; drawn again each time the label space is stored.
    Column("mark", Text, nullable=False),
    # JSON, as it was sent.
    Column("definition", Text, nullable=False),
    # What was made of the examples, JSON, and with which model; null where there are none.
    Column("fitted_for", Text),
    Column("fitted", Text),
    Column("created_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("tenant", "name"),
)

# Matches of rules, and what came of telling their endpoints.
webhooks = Table(
    "webhooks",
    metadata,
    # As the endpoint sees it at each attempt.
    Column("id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("dialogue_id", Text, nullable=False),
    Column("index", Integer, nullable=False),
    Column("rule", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    # JSON, as it is sent.
    Column("body", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    # When the next attempt may begin; during one, when another process may begin the next.
    Column("due_at", UtcTime, nullable=False),
    # Random; new whenever a process claims it for an attempt.
    Column("owner", Text),
    # Those that failed.
    Column("attempts", Integer, nullable=False, server_default="0"),
    # Why the last one did.
    Column("failure", Text),
    # No further attempt follows; what came of it.
    Column("finished_at", UtcTime),
    Column("result", Text),
    PrimaryKeyConstraint("id"),
    ForeignKeyConstraint(
        ["tenant", "dialogue_id", "index"],
        ["utterances.tenant", "utterances.dialogue_id", "utterances.index"],
        ondelete="CASCADE",
    ),
    Index(None, "tenant", "dialogue_id", "index"),
    # The next to be sent to an endpoint.
    Index(
        None,
        "endpoint",
        "due_at",
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
    # The next to be erased.
    Index(
        None,
        "finished_at",
        sqlite_where=text("finished_at IS NOT NULL"),
        postgresql_where=text("finished_at IS NOT NULL"),
    ),
)


SQLITE: Dialect = URL.create("sqlite+aiosqlite").get_dialect()()
POSTGRESQL: Dialect = URL.create("postgresql+asyncpg").get_dialect()()

Insert = postgresql.Insert | sqlite.Insert
_Converter = Callable[[Any], Any]


def insert_into(table: Table, dialect: Dialect) -> Insert:
    """An INSERT that takes ON CONFLICT."""
    return sqlite.insert(table) if dialect.name == "sqlite" else postgresql.insert(table)


def parameters_of(table: Table) -> dict[str, BindParameter[Any]]:
    """A parameter for each column of a table, with the column's name and type."""
    return {column.name: bindparam(column.name, type_=column.type) for column in table.c}


@dataclass(frozen=True, slots=True)
class CompiledStatement:
    """A statement as a dialect's driver takes it: executing it renders and looks up nothing.

    Attributes:
        sql: with the driver's placeholders.
        parameters: the name of each placeholder's value, and what turns that into the driver's.
        constants: the values that the statement itself brings, by name.
    """

    sql: str
    parameters: tuple[tuple[str, _Converter | None], ...]
    constants: Mapping[str, Any]

    def bind(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The placeholders' values in their order; names that the statement lacks are ignored.

        Raises:
            KeyError: a parameter has no value.
        """
        named = {**values, **self.constants}
        return tuple(
            named[name] if convert is None else convert(named[name])
            for name, convert in self.parameters
        )


def compile_once(statement: ClauseElement, dialect: Dialect) -> CompiledStatement:
    """Compile a statement for a dialect whose placeholders are positional."""
    compiled = statement.compile(dialect=dialect)
    if not isinstance(compiled, SQLCompiler) or compiled.positiontup is None:
        raise TypeError(f"{dialect.driver} has no positional placeholders for {statement}")
    binds = [(name, compiled.binds[name]) for name in compiled.positiontup]
    return CompiledStatement(
        str(compiled),
        tuple(
            (name, bind.type.dialect_impl(dialect).bind_processor(dialect)) for name, bind in binds
        ),
        {name: bind.value for name, bind in binds if not bind.required},
    )
