"""All settings; each is an environment variable that begins with `ERC_`."""

import os
import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

_PREFIX = "ERC_"
_NAME = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?"
_HOST = re.compile(rf"\*|(?:\*\.)?{_NAME}")
_SERVER = re.compile(rf"(?![0-9.]+$){_NAME}")  # digits alone are an address, or nothing
_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_MOST_CHARACTERS_OF_A_PREFIX = 200
# What the service's own paths begin with: whether a prefix was taken away could not be told.
OWN = (
    *("batch", "demonstrations", "dialogues", "docs", "jobs", "label-spaces", "livez", "metrics"),
    *("openapi.json", "problems", "readyz"),
)
_REPOSITORY = Path(__file__).resolve().parents[1]
_SQLITE_HOME = re.compile(r"(sqlite(?:\+\w+)?:///)(~.*)", re.DOTALL)


class _Given(BaseModel):
    """What holds for every setting that is given."""

    @field_validator("*", mode="before")
    @classmethod
    def is_not_empty(cls, value: Any, info: ValidationInfo) -> Any:
        """Empty is unset, where a setting may be unset; elsewhere it is an oversight."""
        if not isinstance(value, str) or value.strip():
            return value
        if cls._may_be_empty(str(info.field_name)):
            return None
        raise ValueError("is empty: give it a value, or unset it")

    @field_validator("*", mode="after")
    @classmethod
    def has_no_tilde(cls, value: Any) -> Any:
        """No shell has seen it: `~` is the home folder here too."""
        return _at_home(value) if isinstance(value, Path) else value

    @classmethod
    def _may_be_empty(cls, name: str) -> bool:
        return cls.model_fields[name].default is None


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("its ~ stands for no home folder: write the whole path") from None


def _is_web_address(url: str) -> bool:
    try:
        found = urlsplit(url)
        host, is_web = found.hostname or "", found.scheme in ("http", "https")
        is_host = bool(_SERVER.fullmatch(host)) or _is_address(host)
        return is_web and is_host and found.port != 0 and url.isascii() and url.isprintable()
    except ValueError:
        return False


class Section(_Given):
    """Settings that belong together; a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Database(Section):
    """Where dialogues are kept."""

    url: SecretStr = Field(
        SecretStr("sqlite:///build/erc.sqlite3"),
        description="`sqlite:///path` or `postgresql://user:password@host/name`",
    )

    @field_validator("url")
    @classmethod
    def has_no_tilde_in_its_path(cls, value: SecretStr) -> SecretStr:
        found = _SQLITE_HOME.fullmatch(value.get_secret_value())
        return value if found is None else SecretStr(f"{found[1]}{_at_home(Path(found[2]))}")


class Sessions(Section):
    """How long what the database holds is kept."""

    dialogue_retention_s: PositiveFloat | None = Field(
        None, description="seconds after its last write that a dialogue is erased; unset: never"
    )
    idempotency_retention_s: PositiveFloat = Field(
        86_400, description="seconds that the answer to an `Idempotency-Key` is kept"
    )
    job_retention_s: PositiveFloat = Field(
        86_400, description="seconds after its end that a job and its results are erased"
    )
    housekeeping_interval_s: PositiveFloat = Field(
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
    breaker_threshold: PositiveInt = Field(
        5, description="failures in a row after which demonstrations are left alone"
    )
    breaker_reset_s: PositiveFloat = Field(
        10.0, description="seconds until one answer tries again whether they are back"
    )

    @property
    def kept_vectors(self) -> Path:
        """The folder in which commands keep what they have encoded, beside the service's index."""
        return self.folder.with_name(f"{self.folder.name}-vectors")


class Qdrant(Section):
    """A Qdrant server in place of the embedded index."""

    url: str | None = Field(None, description="such as `http://qdrant:6333`; unset: embedded")
    api_key: SecretStr | None = Field(None, description="key of the server")
    collection: str = Field("demonstrations", description="prefix of the collection's name")
    timeout_s: PositiveFloat = Field(2.0, description="seconds that one call may take")
    prefer_grpc: bool = Field(False, description="gRPC rather than REST")

    @field_validator("url")
    @classmethod
    def is_of_a_server(cls, value: str | None) -> str | None:
        if value is not None and not _is_web_address(value):
            raise ValueError("is no url of a server: write http://host:6333 or https://host:6333")
        return value


def _listed(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(each.strip() for each in value.split(",") if each.strip())


def _servers(given: tuple[str, ...]) -> tuple[str, ...]:
    for number, each in enumerate(given, start=1):
        if not _is_web_address(each) or urlsplit(each).query or urlsplit(each).username:
            raise ValueError(
                f"number {number} is no url of a server: write http://host:8000 or "
                "https://host:8000, and keys into ERC_ENGINE__API_KEY"
            )
    servers = tuple(each.rstrip("/") for each in given)
    if not servers or len(set(servers)) < len(servers):
        raise ValueError("names no server, or one twice: name each once")
    return servers


Servers = Annotated[
    Annotated[tuple[str, ...], AfterValidator(_servers)] | None, NoDecode, BeforeValidator(_listed)
]


class Engine(Section):
    """How vLLM runs, or where its servers are."""

    urls: Servers = Field(
        None,
        description="servers of vLLM that read the labels, such as "
        "`http://gpu-1:8000,http://gpu-2:8000`, or a router before them; a name with several "
        "addresses stands for a server at each; unset: vLLM runs in this process",
    )
    api_key: SecretStr | None = Field(None, description="key of the servers")
    model: str | None = Field(
        None, description="name that the servers know the model by; unset: the bundle's"
    )
    connect_timeout_s: PositiveFloat = Field(
        1.0, description="seconds that a connection to a server may take"
    )
    answer_timeout_s: PositiveFloat = Field(
        60.0, description="seconds that a server may take for a prompt, where no deadline is sooner"
    )
    kv_cache_gib: PositiveInt = Field(1, description="GiB of prefix cache on a CPU")
    threads: PositiveInt | None = Field(
        None, description="cores that vLLM computes on where there is no GPU; unset: all but one"
    )
    max_sequences: PositiveInt = Field(128, description="prompts in one step at most")
    gpu_memory: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9, description="share of a GPU's memory that vLLM takes"
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="what vLLM computes in; `auto`: `bfloat16` where the machine has instructions "
        "for it, elsewhere `float32`, which is many times as fast there as emulated `bfloat16`",
    )
    probe_after_s: PositiveFloat = Field(
        4.0,
        description="seconds without an answer after which vLLM is probed, and a server of it "
        "that is away is tried again",
    )
    stalled_after_s: PositiveFloat = Field(
        8.0, description="seconds without an answer after which vLLM is taken for hanging"
    )
    exit_after_s: PositiveFloat = Field(
        60.0,
        description="seconds without an answer after which the service ends, with status 1, if "
        "vLLM runs in it",
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
    dialogue_utterances: PositiveInt = Field(
        10_000, description="utterances of a dialogue; ten times as many writes to it"
    )
    answers: PositiveInt = Field(
        100_000, description="answers to an `Idempotency-Key` that are kept for one tenant"
    )
    demonstrations: PositiveInt = Field(
        100_000, description="demonstrations of one tenant's own, its corrections among them"
    )
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
        "`ERC_ENGINE__MAX_SEQUENCES` for each server of vLLM, so that its next step is ready",
    )
    queue_length: PositiveInt = Field(128, description="utterances that may wait to be under way")
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


def as_prefix(value: str) -> str | None:
    """A path that may stand before the service's own, without the slash at its end.

    None: it is no such path; it may have been sent by anybody.
    """
    path = value.removesuffix("/")
    too_long = len(path) > _MOST_CHARACTERS_OF_A_PREFIX
    if too_long or not _PATH.fullmatch(path) or path[1:].partition("/")[0] in OWN:
        return None
    return path


def _prefix(value: str) -> str:
    path = as_prefix(value)
    if path is None:
        raise ValueError(
            "is no prefix: write a path such as /emotions, of letters, digits and -._~, no part "
            f"with a dot first, that does not begin as one of the service's own ({', '.join(OWN)})"
        )
    return path


def _networks(given: tuple[str, ...]) -> tuple[str, ...]:
    for number, each in enumerate(given, start=1):
        try:
            if each != "*":
                ip_network(each)
        except ValueError:
            raise ValueError(
                f"number {number} is no address: give addresses such as 10.0.0.7, networks such as "
                "10.0.0.0/8 without bits beyond their length, or * for anybody"
            ) from None
    return given


def _origins(given: tuple[str, ...]) -> tuple[str, ...]:
    for number, each in enumerate(given, start=1):
        if not _is_origin(each):
            raise ValueError(
                f"number {number} is no origin as browsers send it: give each page's scheme, host "
                "and port, such as https://app.example.org or http://localhost:3000, in lower "
                "case, without a path, without *, and without the port that is the scheme's own"
            )
    return given


def _is_origin(value: str) -> bool:
    if not _is_web_address(value):
        return False
    found = urlsplit(value)
    host = f"[{found.hostname}]" if ":" in (found.hostname or "") else found.hostname
    own = {"http": 80, "https": 443}[found.scheme]
    port = "" if found.port in (None, own) else f":{found.port}"
    return value == f"{found.scheme}://{host}{port}"


def _checked(hosts: tuple[str, ...]) -> tuple[str, ...]:
    for number, host in enumerate(hosts, start=1):
        if not (_HOST.fullmatch(host) or _is_address(host)):
            raise ValueError(
                f"number {number} is no host: give names such as erc.example.org, *.example.org "
                "for all below one, or addresses; without scheme, port or path"
            )
    return hosts


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


AllowedHosts = Annotated[
    Annotated[tuple[str, ...], AfterValidator(_checked)] | None, NoDecode, BeforeValidator(_listed)
]
Networks = Annotated[
    Annotated[tuple[str, ...], AfterValidator(_networks)] | None, NoDecode, BeforeValidator(_listed)
]
Origins = Annotated[
    Annotated[tuple[str, ...], AfterValidator(_origins)] | None, NoDecode, BeforeValidator(_listed)
]
RootPath = Annotated[str, AfterValidator(_prefix)]


class Settings(_Given, BaseSettings):
    """All settings, read from the environment once, at start."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # an error would print the secrets
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="port; 0: any free one")
    allowed_hosts: AllowedHosts = Field(
        None,
        description="hosts that the service may be asked for as beside this machine, such as "
        "`erc.example.org,*.example.com`; `*`: any; unset: none on a loopback address; elsewhere "
        "any host if callers need keys, any IP address if they do not",
    )
    root_path: RootPath | None = Field(
        None,
        description="path that a proxy in front puts before the service's own, such as "
        "`/emotions`, whether it takes it away again or not",
    )
    forwarded_allow_ips: Networks = Field(
        None,
        description="addresses and networks of proxies whose `X-Forwarded-For`, `-Host`, `-Proto` "
        "and `-Prefix` are believed, such as `10.0.0.0/8,::1`; `*`: of anybody; unset: of nobody",
    )
    cors_origins: Origins = Field(
        None,
        description="origins of pages that may ask and read what is answered, such as "
        "`https://app.example.org`; unset: none but the service's own",
    )
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
        description="key that dialogues are hashed with, for logs, traces and servers of vLLM; "
        "unset: a random one",
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

    @classmethod
    def _may_be_empty(cls, name: str) -> bool:
        # Without keys anybody may ask for anything: nobody is to come to that by oversight.
        return name != "keys_file" and super()._may_be_empty(name)

    @property
    def utterance_places(self) -> int:
        servers = len(self.engine.urls or ("in process",))
        return self.admission.utterances or 2 * self.engine.max_sequences * servers

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
    strays = [name for name in names_given() if name.split("__")[0] not in known]
    if strays:
        raise UnknownSetting(f"no such setting: {', '.join(strays)}")
    try:
        return Settings()
    except SettingsError as error:  # of a section as a whole, which is no JSON
        # The message names the field; what follows may hold the value.
        found = re.match(r'error parsing value for field "(\w+)"', str(error))
        if found is None or found[1].upper() not in _SECTIONS:
            raise UnknownSetting("a setting cannot be read") from None
        section = _PREFIX + found[1].upper()
        raise UnknownSetting(f"{section} sets nothing: its settings are {section}__...") from None


def names_given() -> list[str]:
    """The variables that set something, or are meant to."""
    # Tests name their servers by variables of the same prefix.
    return sorted(
        name
        for name in os.environ
        if name.startswith(_PREFIX) and not name.startswith(_PREFIX + "TEST_")
    )


def faults_of(error: ValidationError) -> list[str]:
    """What is wrong with which variable; no value is shown."""
    return [
        f"{_PREFIX}{'__'.join(str(part).upper() for part in fault['loc'])}: "
        + fault["msg"].removeprefix("Value error, ")
        for fault in error.errors(include_input=False, include_url=False)
    ]


_SECTIONS = frozenset(
    name.upper()
    for name, field in Settings.model_fields.items()
    if isinstance(field.default, Section)
)
