"""Which variable sets what. Every setting is an environment variable that begins with `ERC_`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

_PREFIX = "ERC_"
_REPOSITORY = Path(__file__).resolve().parents[1]


class Section(BaseModel):
    """Settings that belong together; a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Database(Section):
    """Where dialogues are kept."""

    url: SecretStr = Field(
        SecretStr("sqlite:///build/erc.sqlite3"),
        description="`sqlite:///path` or `postgresql://user:password@host/name`",
    )


class Sessions(Section):
    """How long what the database holds is kept."""

    ttl_s: PositiveFloat | None = Field(
        None, description="seconds after its last write that a dialogue is erased; unset: never"
    )
    idempotency_s: PositiveFloat = Field(
        86_400, description="seconds that the answer to an `Idempotency-Key` is kept"
    )
    jobs_s: PositiveFloat = Field(
        86_400, description="seconds after its end that a job and its results are erased"
    )
    housekeeping_s: PositiveFloat = Field(
        60, description="seconds between two looks for what is to be erased or delivered"
    )


class Demonstrations(Section):
    """Whether prompts show any, and the embedded index, used when no Qdrant server is set."""

    file: Path | None = Field(
        None, description="demonstrations the index is built from; by default the data folder's"
    )
    folder: Path = Field(Path("build/demonstrations"), description="folder of the embedded index")
    shown: bool = Field(True, description="show demonstrations to the model")
    timeout_s: PositiveFloat = Field(
        10.0, description="seconds until an answer goes on without demonstrations"
    )
    failures: PositiveInt = Field(
        5, description="failures in a row after which demonstrations are left alone"
    )
    pause_s: PositiveFloat = Field(
        10.0, description="seconds until one answer tries again whether they are back"
    )


class Qdrant(Section):
    """A Qdrant server in place of the embedded index."""

    url: str | None = Field(None, description="such as `http://qdrant:6333`; unset: embedded")
    api_key: SecretStr | None = Field(None, description="key of the server")
    collection: str = Field("demonstrations", description="prefix of the collection's name")
    timeout_s: PositiveFloat = Field(2.0, description="seconds that one call may take")
    prefer_grpc: bool = Field(False, description="gRPC rather than REST")


class Engine(Section):
    """How vLLM runs."""

    kv_cache_gib: PositiveInt = Field(1, description="GiB of prefix cache on a CPU")
    threads: PositiveInt | None = Field(
        None, description="cores that vLLM computes on where there is no GPU; unset: all but one"
    )
    max_sequences: PositiveInt = Field(128, description="prompts in one step at most")
    gpu_memory: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9, description="share of a GPU's memory that vLLM takes"
    )
    probe_s: PositiveFloat = Field(
        4.0, description="seconds without an answer after which vLLM is probed"
    )
    stalled_s: PositiveFloat = Field(
        8.0, description="seconds without an answer after which vLLM is taken for hanging"
    )
    gives_up_s: PositiveFloat = Field(
        60.0, description="seconds without an answer after which the service ends, with status 1"
    )


class Limits(Section):
    """What one request may hold."""

    body_bytes: PositiveInt = Field(1_048_576, description="bytes of a request body")
    lines_bytes: PositiveInt = Field(
        268_435_456, description="bytes of a body of NDJSON, each line of which is a body's size"
    )
    text_characters: PositiveInt = Field(2000, description="characters of an utterance")
    speaker_characters: PositiveInt = Field(100, description="characters of a speaker's name")
    batch_dialogues: PositiveInt = Field(100, description="dialogues of a batch")
    batch_utterances: PositiveInt = Field(1000, description="utterances of a batch, in all")
    jobs: PositiveInt = Field(20, description="jobs of one tenant that are kept")
    job_dialogues: PositiveInt = Field(100_000, description="dialogues, or lines, of a job")
    timeline_utterances: PositiveInt = Field(1000, description="utterances of a timeline's page")


class Admission(Section):
    """How much is taken on at once, and how long it may take."""

    connections: PositiveInt = Field(2048, description="connections that may be open")
    requests: PositiveInt = Field(256, description="requests under way at most, batches aside")
    batches: PositiveInt = Field(4, description="batches under way at most")
    streams: PositiveInt = Field(256, description="streams of events that may be open")
    utterances: PositiveInt | None = Field(
        None,
        description="utterances under way at most, half of them of batches; unset: twice "
        "`ERC_ENGINE__MAX_SEQUENCES`, so that the engine's next step is ready",
    )
    waiting: PositiveInt = Field(128, description="utterances that may wait to be under way")
    tenant_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5,
        description="share of the requests, batches, streams and waiting utterances that one "
        "tenant may have, where the service has keys; 1: all of them",
    )
    deadline_s: PositiveFloat = Field(
        20.0, description="seconds until a request is given up; `Prefer: wait=5` lowers it"
    )
    batch_deadline_s: PositiveFloat = Field(300.0, description="the same for a batch")
    grace_s: PositiveFloat = Field(
        20.0, description="seconds that requests under way have to finish when the service ends"
    )


class Settings(BaseSettings):
    """All settings, read from the environment once, at start."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # an error would print the secrets
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="port; 0: any free one")
    keys_file: Path | None = Field(
        None, description="file of the keys that callers need; unset: anybody may ask for anything"
    )
    allow_anonymous: bool = Field(
        False, description="start without keys on an address that other machines can reach"
    )
    open_operations: bool | None = Field(
        None,
        description="`/metrics` and `/docs` need no key; unset: on a loopback address only, "
        "elsewhere a key with the scope `admin`",
    )
    bundle: Path = Field(Path("build/bundles/erc-mini"), description="folder of the model bundle")
    data: Path = Field(_REPOSITORY / "data", description="folder of label spaces, demonstrations")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="least level that is logged; above `debug` neither utterance text nor keys are",
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="`json`: an object a line, with the ids of request, dialogue and trace"
    )
    dialogue_key: SecretStr | None = Field(
        None,
        description="key that dialogues are hashed with, for logs and traces; unset: a random one",
    )
    traces: bool = Field(
        False,
        description="send OpenTelemetry traces, by OTLP over HTTP; the variables `OTEL_...` say "
        "where and how many",
    )
    database: Database = Database()
    sessions: Sessions = Sessions()
    demonstrations: Demonstrations = Demonstrations()
    qdrant: Qdrant = Qdrant()
    engine: Engine = Engine()
    limits: Limits = Limits()
    admission: Admission = Admission()

    @property
    def utterance_places(self) -> int:
        return self.admission.utterances or 2 * self.engine.max_sequences

    @property
    def demonstrations_file(self) -> Path:
        return self.demonstrations.file or self.data / "demonstrations.jsonl"


def settings_table() -> str:
    """Every setting as a Markdown table: variable, default, meaning."""
    rows = ["| variable | default | sets |", "|---|---|---|"]
    rows.extend(_rows(Settings, _PREFIX))
    return "\n".join(rows)


def _rows(section: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        variable = prefix + name.upper()
        if isinstance(field.default, Section):
            yield from _rows(type(field.default), variable + "__")
            continue
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        if isinstance(default, Path) and default.is_relative_to(_REPOSITORY):
            default = default.relative_to(_REPOSITORY)
        shown = "" if default is None else f"`{default}`"
        yield f"| `{variable}` | {shown} | {field.description} |"


class UnknownSetting(ValueError):
    """A variable begins with the prefix but sets nothing: most likely misspelt."""


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        UnknownSetting: a variable `ERC_...` that is no setting.
        pydantic.ValidationError: a value of the wrong type; values are not printed.
    """
    known = {_PREFIX + name.upper() for name in Settings.model_fields}
    # Tests name their servers by variables of the same prefix.
    strays = sorted(
        name
        for name in os.environ
        if name.startswith(_PREFIX)
        and not name.startswith(_PREFIX + "TEST_")
        and name.split("__")[0] not in known
    )
    if strays:
        raise UnknownSetting(f"no such setting: {', '.join(strays)}")
    return Settings()
