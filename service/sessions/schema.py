"""The tables of the durable dialogues.

A change here needs a new file in `migrations/versions`; a test compares the two.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
)

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
    PrimaryKeyConstraint("tenant", "id"),
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
    PrimaryKeyConstraint("tenant", "dialogue_id", "index"),
    ForeignKeyConstraint(
        ["tenant", "dialogue_id"], ["dialogues.tenant", "dialogues.id"], ondelete="CASCADE"
    ),
    # Finds a speaker's index without reading the dialogue.
    Index(None, "tenant", "dialogue_id", "speaker", "speaker_index"),
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
    # Random; new whenever the label space is put.
    Column("mark", Text, nullable=False),
    # JSON, as it was put.
    Column("definition", Text, nullable=False),
    # What was made of the examples, JSON, and with which model; null where there are none.
    Column("fitted_for", Text),
    Column("fitted", Text),
    Column("created_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("tenant", "name"),
)
