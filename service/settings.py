"""All settings; each is an environment variable, such as `ERC_BUNDLE` or `ERC_DATABASE__URL`."""

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
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
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

_PREFIX = "ERC_"
_NAME = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?"
_HOST = re.compile(rf"\*|(?:\*\.)?{_NAME}")
_SERVER = re.compile(rf"(?![0-9.]+$){_NAME}")  # digits alone are an address, or invalid
_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_MOST_CHARACTERS_OF_A_PREFIX = 200
# A prefix must not begin like these paths, or nobody could tell whether a proxy has stripped it.
OWN = (
    *("batch", "console", "corrections", "demonstrations", "dialogues", "docs", "jobs"),
    *("label-spaces", "livez", "metrics", "openapi.json", "problems", "readyz", "transcripts"),
    "utterances",
)
_OBJECT_STORE = re.compile(r"(?:s3|gs|az)://[^\s/]+(?:/\S*)?")
_REPOSITORY = Path(__file__).resolve().parents[1]
_SQLITE_HOME = re.compile(r"(sqlite(?:\+\w+)?:///)(~.*)", re.DOTALL)


class _Given(BaseModel):
    """Rules for the value of every setting."""

    @field_validator("*", mode="before")
    @classmethod
    def is_not_empty(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse an empty value, unless the setting may be unset: there empty means unset."""
        if not isinstance(value, str) or value.strip():
            return value
        if cls._may_be_empty(str(info.field_name)):
            return None
        raise ValueError("is empty: give it a value, or unset it")

    @field_validator("*", mode="after")
    @classmethod
    def expand_home(cls, value: Any) -> Any:
        """Expand `~` to the home folder, because no shell has done so."""
        return _at_home(value) if isinstance(value, Path) else value

    @classmethod
    def _may_be_empty(cls, name: str) -> bool:
        return cls.model_fields[name].default is None


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("its ~ has no home folder to stand for: write the full path") from None


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, is_web = parts.hostname or "", parts.scheme in ("http", "https")
        is_host = bool(_SERVER.fullmatch(host)) or _is_address(host)
        return is_web and is_host and parts.port != 0 and url.isascii() and url.isprintable()
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
    def expand_home_in_url(cls, value: SecretStr) -> SecretStr:
        match = _SQLITE_HOME.fullmatch(value.get_secret_value())
        return value if match is None else SecretStr(f"{match[1]}{_at_home(Path(match[2]))}")


class Sessions(Section):
    """How long stored data is kept."""

    dialogue_retention_s: PositiveFloat | None = Field(
        None,
        description="seconds from a dialogue's last write to its erasure; unset: never erased",
    )
    idempotency_retention_s: PositiveFloat = Field(
        86_400, description="seconds for which the response to an `Idempotency-Key` is kept"
    )
    job_retention_s: PositiveFloat = Field(
        86_400, description="seconds after which a finished job and its results are erased"
    )
    housekeeping_interval_s: PositiveFloat = Field(
        60, description="seconds between two checks for data to erase or deliver"
    )


class Rules(Section):
    """Which emotions the service tells others of."""

    file: Path | None = Field(
        None, description="file of rules and of the endpoints that they tell; unset: no rules"
    )
    give_up_after_s: PositiveFloat = Field(
        86_400, description="seconds after which a webhook that cannot be delivered is given up"
    )
    webhook_retention_s: PositiveFloat = Field(
        604_800,
        description="seconds for which a webhook that was delivered or given up is kept in the "
        "database",
    )


class Demonstrations(Section):
    """Whether prompts contain any, and the embedded index, used without a Qdrant server."""

    file: Path | None = Field(
        None,
        description="file of demonstrations to build the index from; unset: the one in the "
        "data folder",
    )
    folder: Path = Field(Path("build/demonstrations"), description="folder of the embedded index")
    shown: bool = Field(True, description="include demonstrations in prompts")
    timeout_s: PositiveFloat = Field(
        10.0, description="seconds to wait for demonstrations before answering without them"
    )
    breaker_threshold: PositiveInt = Field(
        5,
        description="consecutive failures after which answers are given without trying to "
        "retrieve demonstrations",
    )
    breaker_reset_s: PositiveFloat = Field(
        10.0, description="seconds until retrieval is tried again"
    )

    @property
    def kept_vectors(self) -> Path:
        """The folder in which commands keep what they have encoded, beside the service's index."""
        return self.folder.with_name(f"{self.folder.name}-vectors")


class Qdrant(Section):
    """A Qdrant server in place of the embedded index."""

    url: str | None = Field(
        None, description="such as `http://qdrant:6333`; unset: the embedded index"
    )
    api_key: SecretStr | None = Field(None, description="the server's API key")
    collection: str = Field("demonstrations", description="name of the collection")
    timeout_s: PositiveFloat = Field(2.0, description="seconds after which a call times out")
    prefer_grpc: bool = Field(False, description="use gRPC instead of REST")

    @field_validator("url")
    @classmethod
    def is_of_a_server(cls, value: str | None) -> str | None:
        if value is not None and not _is_web_address(value):
            raise ValueError(
                "is not the URL of a server: write http://host:6333 or https://host:6333"
            )
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
        None, description="cores that vLLM uses on a machine without a GPU; unset: all but one"
    )
    max_sequences: PositiveInt = Field(128, description="most prompts in one step")
    step_tokens: PositiveInt | None = Field(
        None, description="most tokens in one step; unset: 8192 on a GPU, vLLM's default on a CPU"
    )
    tensor_parallel: PositiveInt = Field(
        1, description="GPUs that together hold one copy of the model"
    )
    gpu_memory: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9, description="share of a GPU's memory that vLLM takes"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        description="type that vLLM computes in; `auto`: `bfloat16` if the machine has "
        "instructions for it, else `float32`, which is many times as fast as emulated `bfloat16`; "
        "`float16` is for GPUs older than Ampere",
    )
    kv_dtype: Literal["auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"] = Field(
        "auto",
        description="type of vLLM's cache; `auto`: as it computes, or as a quantised checkpoint "
        "says; `fp8` halves the cache and changes answers slightly",
    )
    attention: Literal["FLASH_ATTN", "FLASHINFER", "TRITON_ATTN", "FLEX_ATTENTION"] | None = Field(
        None,
        description="attention kernels on a GPU; unset: vLLM's choice, except kernels that it "
        "would have to compile with `nvcc` on a machine without it",
    )
    load_format: Literal["safetensors", "runai_streamer", "runai_streamer_sharded"] | None = Field(
        None,
        description="how vLLM loads the weights; unset: `safetensors`, or `runai_streamer` from an "
        "object store",
    )
    weights: str | None = Field(
        None,
        description="folder in an object store with the weights, such as `s3://models/erc-70b`; "
        "the other files are in `ERC_BUNDLE`; unset: all files are",
    )
    arguments: dict[str, Any] | None = Field(
        None,
        description="further arguments of vLLM's `AsyncEngineArgs`, as a JSON object; arguments "
        "that would change answers, or that have a setting, are refused",
    )
    probe_after_s: PositiveFloat = Field(
        4.0,
        description="seconds without an answer after which vLLM is probed, and a server of it "
        "that is away is tried again",
    )
    stalled_after_s: PositiveFloat = Field(
        8.0, description="seconds without an answer after which vLLM is considered to hang"
    )
    exit_after_s: PositiveFloat = Field(
        60.0,
        description="seconds without an answer after which the service exits with status 1, if "
        "vLLM runs in it",
    )

    @field_validator("weights")
    @classmethod
    def is_streamed_from_an_object_store(
        cls, value: str | None, info: ValidationInfo
    ) -> str | None:
        if value is not None and not _OBJECT_STORE.fullmatch(value):
            raise ValueError("is no folder of an object store: write it as s3://models/erc")
        if value is not None and info.data.get("load_format") == "safetensors":
            raise ValueError("is streamed: unset ERC_ENGINE__LOAD_FORMAT, or set runai_streamer")
        return value


class Limits(Section):
    """What one request may contain, and what is stored for one tenant."""

    body_bytes: PositiveInt = Field(1_048_576, description="bytes of a request body")
    lines_bytes: PositiveInt = Field(
        268_435_456,
        description="bytes of an NDJSON body, in which each line may be as long as another body",
    )
    text_characters: PositiveInt = Field(2000, description="characters of an utterance")
    speaker_characters: PositiveInt = Field(100, description="characters of a speaker's name")
    batch_dialogues: PositiveInt = Field(100, description="dialogues of a batch")
    batch_utterances: PositiveInt = Field(1000, description="utterances of a batch in total")
    dialogue_utterances: PositiveInt = Field(
        10_000, description="utterances of a dialogue; it may be written to ten times as often"
    )
    answers: PositiveInt = Field(
        100_000, description="responses stored for the idempotency keys of one tenant"
    )
    demonstrations: PositiveInt = Field(
        100_000, description="demonstrations of one tenant, including its corrections"
    )
    jobs: PositiveInt = Field(20, description="jobs kept for one tenant")
    job_dialogues: PositiveInt = Field(100_000, description="dialogues or lines of a job")
    timeline_utterances: PositiveInt = Field(1000, description="utterances on a page of a timeline")


class Admission(Section):
    """How much the service accepts at once, and how long it may take."""

    connections: PositiveInt = Field(2048, description="open connections")
    requests: PositiveInt = Field(256, description="concurrent requests, not counting batches")
    batches: PositiveInt = Field(4, description="concurrent batches")
    streams: PositiveInt = Field(256, description="open event streams")
    utterances: PositiveInt | None = Field(
        None,
        description="utterances processed at once, at most half of them from batches; unset: "
        "twice `ERC_ENGINE__MAX_SEQUENCES` for each server of vLLM, so that its next step is ready",
    )
    queue_length: PositiveInt = Field(128, description="utterances that may wait to be processed")
    tenant_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5,
        description="share of the requests, batches, streams and waiting utterances that one "
        "tenant may use if the service has keys; 1: all of them",
    )
    deadline_s: PositiveFloat = Field(
        20.0, description="seconds until a request times out; `Prefer: wait=5` lowers it"
    )
    batch_deadline_s: PositiveFloat = Field(300.0, description="the same for a batch")
    grace_s: PositiveFloat = Field(
        20.0, description="seconds that requests have to finish when the service shuts down"
    )


def as_prefix(value: str) -> str | None:
    """A path to put before the service's own, without the slash at its end.

    None if it is not valid; anybody may have sent it.
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
            "is not a valid prefix: write a path such as /emotions that consists of letters, "
            "digits and -._~, in which no segment begins with a dot, and which does not begin "
            f"like one of the service's own paths ({', '.join(OWN)})"
        )
    return path


def _networks(given: tuple[str, ...]) -> tuple[str, ...]:
    for number, each in enumerate(given, start=1):
        try:
            if each != "*":
                ip_network(each)
        except ValueError:
            raise ValueError(
                f"entry {number} is not an address: give addresses such as 10.0.0.7, networks "
                "such as 10.0.0.0/8 without host bits, or * for any client"
            ) from None
    return given


def _origins(given: tuple[str, ...]) -> tuple[str, ...]:
    for number, each in enumerate(given, start=1):
        if not _is_origin(each):
            raise ValueError(
                f"entry {number} is not an origin as browsers send it: give the scheme, host and "
                "port of each page, such as https://app.example.org or http://localhost:3000, in "
                "lower case, without a path, without *, and without the scheme's default port"
            )
    return given


def _is_origin(value: str) -> bool:
    if not _is_web_address(value):
        return False
    parts = urlsplit(value)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    port = "" if parts.port in (None, default) else f":{parts.port}"
    return value == f"{parts.scheme}://{host}{port}"


def _checked(hosts: tuple[str, ...]) -> tuple[str, ...]:
    for number, host in enumerate(hosts, start=1):
        if not (_HOST.fullmatch(host) or _is_address(host)):
            raise ValueError(
                f"entry {number} is not a host: give names such as erc.example.org, *.example.org "
                "for all its subdomains, or addresses, without scheme, port or path"
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
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, description="port to listen on; 0: any free one"
    )
    allowed_hosts: AllowedHosts = Field(
        None,
        description="host names under which clients may reach the service, in addition to this "
        "machine's, such as `erc.example.org,*.example.com`; `*`: any; unset: none on a loopback "
        "address; on other addresses any host if callers need keys, any IP address if they do not",
    )
    root_path: RootPath | None = Field(
        None,
        description="path under which a proxy serves this service, such as `/emotions`, whether "
        "or not the proxy strips it",
    )
    forwarded_allow_ips: Networks = Field(
        None,
        description="addresses and networks of proxies whose `X-Forwarded-For`, `-Host`, "
        "`-Proto` and `-Prefix` are trusted, such as `10.0.0.0/8,::1`; `*`: any client; unset: "
        "none",
    )
    cors_origins: Origins = Field(
        None,
        description="origins of web pages that may send requests and read the responses, such as "
        "`https://app.example.org`; unset: only the service's own",
    )
    keys_file: Path | None = Field(
        None, description="file of the keys that callers need; unset: anybody may do anything"
    )
    allow_anonymous: bool = Field(
        False, description="allow a start without keys on an address that other machines can reach"
    )
    open_operations: bool | None = Field(
        None,
        description="serve `/metrics` and `/docs` without a key; unset: only on a loopback "
        "address, else with a key that has the scope `admin`",
    )
    console: bool = Field(True, description="serve the console, pages for people, at `/console`")
    bundle: Path = Field(Path("build/bundles/erc-mini"), description="folder of the model bundle")
    data: Path = Field(
        _REPOSITORY / "data", description="folder of label spaces and demonstrations"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="lowest level that is logged; neither utterance texts nor keys are logged "
        "above `debug`",
    )
    log_format: Literal["text", "json"] = Field(
        "text",
        description="`json`: one object per line, with the ids of request, dialogue and trace",
    )
    dialogue_key: SecretStr | None = Field(
        None,
        description="key with which the ids of dialogues are hashed for logs, traces and vLLM's "
        "servers; unset: a random one",
    )
    traces: bool = Field(
        False,
        description="send OpenTelemetry traces by OTLP over HTTP; the `OTEL_...` variables say "
        "where and how many",
    )
    database: Database = Database()
    sessions: Sessions = Sessions()
    rules: Rules = Rules()
    demonstrations: Demonstrations = Demonstrations()
    qdrant: Qdrant = Qdrant()
    engine: Engine = Engine()
    limits: Limits = Limits()
    admission: Admission = Admission()

    @classmethod
    def _may_be_empty(cls, name: str) -> bool:
        # Without keys anybody may do anything: an empty variable must not cause that.
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
    for variable, field in _variables(Settings, _PREFIX):
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        if isinstance(default, Path) and default.is_relative_to(_REPOSITORY):
            default = default.relative_to(_REPOSITORY)
        shown = "" if default is None else f"`{default}`"
        rows.append(f"| `{variable}` | {shown} | {field.description} |")
    return "\n".join(rows)


def _variables(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    """The variable of each setting, with its field."""
    for name, field in section.model_fields.items():
        variable = prefix + name.upper()
        if isinstance(field.default, Section):
            yield from _variables(type(field.default), variable + "__")
        else:
            yield variable, field


def _with_nearest(stray: str) -> str:
    """A variable that is no setting, with the one that it most likely stands for, if any."""
    variables = dict(_variables(Settings, _PREFIX))
    nearest = get_close_matches(stray, variables, n=1, cutoff=0.8)
    return f"{stray} (did you mean {nearest[0]}?)" if nearest else stray


class UnknownSetting(ValueError):
    """A variable has the prefix but names no setting: most likely it is misspelt."""


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        UnknownSetting: a variable `ERC_...` is not a setting.
        pydantic.ValidationError: a value of the wrong type; values are not printed.
    """
    known = {_PREFIX + name.upper() for name in Settings.model_fields}
    strays = [name for name in names_given() if name.split("__")[0] not in known]
    if strays:
        raise UnknownSetting(f"unknown settings: {', '.join(map(_with_nearest, strays))}")
    try:
        return Settings()
    except SettingsError as error:  # of a section as a whole, which is not JSON
        # The message names the field; what follows may hold the value.
        match = re.match(r'error parsing value for field "(\w+)"', str(error))
        if match is None or match[1].upper() not in _SECTIONS:
            raise UnknownSetting("a setting cannot be read") from None
        section = _PREFIX + match[1].upper()
        raise UnknownSetting(
            f"{section} is not a setting by itself: the settings in it are {section}__..."
        ) from None


def names_given() -> list[str]:
    """The variables with the prefix, whether or not they name a setting."""
    # Tests name their servers by variables of the same prefix.
    return sorted(
        name
        for name in os.environ
        if name.startswith(_PREFIX) and not name.startswith(_PREFIX + "TEST_")
    )


def faults_of(error: ValidationError) -> list[str]:
    """One line per faulty variable: its name and what is wrong; never its value."""
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
