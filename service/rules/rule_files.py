"""The rules file: rules, and the endpoints that they tell.

Errors name the file, the rule and the key, and show no value but names: a secret is among them, and
so may be the path of a URL.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from service.conversation.derived import DerivedLabelSpace
from service.conversation.dialogue import ROLE_CHARACTERS
from service.conversation.labels import AnyLabelSpace, UnknownLabel
from service.conversation.rules import MOST_TURNS, Rule, own_shares, shares_of
from service.conversation.valence import is_sentiment
from service.rules.signatures import secret_of

MOST_RULES = 100
MOST_ENDPOINTS = 20
_SENTIMENT = "sentiment"  # a rule in it reads answers in every label space
_MOST_BYTES = 1_000_000
_MOST_CHARACTERS_OF_A_URL = 2000
_MOST_BYTES_OF_A_SECRET_FILE = 1000
_STEP = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RulesError(ValueError):
    """The rules file cannot be read or is invalid; the message names file, rule and key."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where webhooks go.

    Attributes:
        secret: with which they are signed.
        allow_private: whether it may have an address of a private network, or this machine's own.
    """

    name: str
    url: str = field(repr=False)
    secret: bytes = field(repr=False)
    allow_private: bool = False


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What a rules file says.

    Attributes:
        service_url: where people reach the service, for links; "" where links are paths.
        endpoints: by name.
        files: the file, and those that it refers to.
    """

    rules: tuple[Rule, ...]
    endpoints: Mapping[str, Endpoint]
    service_url: str
    files: tuple[Path, ...]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
_Words = Annotated[str, Field(min_length=1, max_length=500)]
# Names of labels and label spaces are in lower case, tenants' own too.
_Caseless = Annotated[_Words, AfterValidator(str.casefold)]


def _in_a_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class _RuleEntry(_Entry):
    name: _Name
    label: Annotated[
        tuple[_Caseless, ...], BeforeValidator(_in_a_list), Field(min_length=1, max_length=100)
    ]
    label_space: _Caseless
    probability: Annotated[float, Field(gt=0, le=1)]
    turns: Annotated[int, Field(ge=1, le=MOST_TURNS)] = 1
    of_last: Annotated[int, Field(ge=1, le=MOST_TURNS)] | None = None
    speaker: _Words | None = None
    role: Annotated[str, Field(min_length=1, max_length=ROLE_CHARACTERS)] | None = None
    tenants: Annotated[frozenset[_Name], Field(min_length=1, max_length=1000)] | None = None
    endpoint: _Name
    include_text: bool = False

    @field_validator("label")
    @classmethod
    def each_label_is_given_once(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) < len(labels):
            raise ValueError("a label is given twice")
        return labels

    @field_validator("of_last")
    @classmethod
    def there_are_as_many_turns(cls, of_last: int | None, info: Any) -> int | None:
        turns = info.data.get("turns", 1)
        if of_last is not None and of_last < turns:
            raise ValueError(f"must be at least turns, which is {turns}")
        return of_last


class _EndpointEntry(_Entry):
    url: Annotated[str, Field(max_length=_MOST_CHARACTERS_OF_A_URL)]
    secret: SecretStr | None = None
    secret_file: Path | None = None
    allow_private: bool = False

    @field_validator("url")
    @classmethod
    def is_a_web_address(cls, url: str) -> str:
        if not _is_web_address(url):
            raise ValueError("is no URL such as https://crm.example.org/hook, without a user")
        return url

    @model_validator(mode="after")
    def has_one_secret(self) -> Self:
        if (self.secret is None) == (self.secret_file is None):
            raise ValueError("needs either secret or secret_file")
        if urlsplit(self.url).scheme == "http" and not self.allow_private:
            raise ValueError("url must be https, unless allow_private is set")
        return self


class _File(_Entry):
    service_url: Annotated[str, Field(max_length=_MOST_CHARACTERS_OF_A_URL)] = ""
    rules: Annotated[tuple[_RuleEntry, ...], Field(max_length=MOST_RULES)]
    endpoints: Annotated[dict[_Name, _EndpointEntry], Field(max_length=MOST_ENDPOINTS)]

    @field_validator("service_url")
    @classmethod
    def is_a_web_address(cls, url: str) -> str:
        if url and not _is_web_address(url):
            raise ValueError("is no URL such as https://erc.example.org")
        return url.removesuffix("/")


def read_rules(file: Path, label_spaces: Mapping[str, AnyLabelSpace]) -> RuleSet:
    """Read a rules file, and the files of its endpoints' secrets.

    Args:
        label_spaces: those that ship, derived ones included.

    Raises:
        RulesError: a file cannot be read, or is invalid.
    """
    values = _toml(file)
    try:
        content = _File.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
        message = fault["msg"].removeprefix("Value error, ")
        raise RulesError(f"{file}: {_where(fault['loc'], values)}{message}") from None
    endpoints, secret_files = {}, []
    for name, each in content.endpoints.items():
        secret, secret_file = _secret(file, name, each)
        endpoints[name] = Endpoint(name, each.url, secret, each.allow_private)
        secret_files += [] if secret_file is None else [secret_file]
    rules = tuple(_rule(file, each, endpoints, label_spaces) for each in content.rules)
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise RulesError(f"{file}: rules.{name}.name: two rules have it; rename one")
    return RuleSet(rules, MappingProxyType(endpoints), content.service_url, (file, *secret_files))


def _toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise RulesError(f"{file}: more than {_MOST_BYTES:,} bytes")
        return tomllib.loads(content.decode())
    except OSError as error:
        raise RulesError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also of a number of thousands of digits
        # The rest of the message may show a secret.
        where_in_file = re.search(r"line \d+,? column \d+", str(error))
        where = f" at {where_in_file[0]}" if where_in_file else ""
        raise RulesError(f"{file} is not TOML{where}") from None


def _where(location: tuple[int | str, ...], values: Mapping[str, Any]) -> str:
    """The place of a fault, with the name of a rule instead of its number."""
    steps = [str(step) for step in location]
    if len(location) > 1 and location[0] == "rules" and isinstance(location[1], int):
        try:
            name = str(values["rules"][location[1]]["name"])
        except (KeyError, TypeError, IndexError):
            name = ""
        steps[1] = name if _STEP.fullmatch(name) else f"rule {location[1] + 1}"
    shown = [step if _STEP.fullmatch(step.removeprefix("rule ")) else "..." for step in steps]
    return f"{'.'.join(shown)}: " if shown else ""


def _secret(file: Path, name: str, entry: _EndpointEntry) -> tuple[bytes, Path | None]:
    if entry.secret is not None:
        key, text, secret_file = "secret", entry.secret.get_secret_value(), None
    else:
        key, secret_file = "secret_file", file.parent / (entry.secret_file or "")
        if "\0" in str(secret_file):
            raise RulesError(f"{file}: endpoints.{name}.secret_file: is no path of a file")
        try:
            with secret_file.open("rb") as opened:
                text = opened.read(_MOST_BYTES_OF_A_SECRET_FILE).decode("ascii", "replace").strip()
        except OSError as error:
            raise RulesError(
                f"{file}: endpoints.{name}.secret_file: cannot read {secret_file}: {error.strerror}"
            ) from None
    try:
        return secret_of(text), secret_file
    except ValueError as error:
        raise RulesError(f"{file}: endpoints.{name}.{key}: {error}") from None


def _rule(
    file: Path,
    entry: _RuleEntry,
    endpoints: Mapping[str, Endpoint],
    label_spaces: Mapping[str, AnyLabelSpace],
) -> Rule:
    where = f"{file}: rules.{entry.name}"
    if entry.endpoint not in endpoints:
        raise RulesError(f"{where}.endpoint: there is no [endpoints.{entry.endpoint}]")
    space = label_spaces.get(entry.label_space)
    if space is None and entry.tenants is None:
        raise RulesError(
            f"{where}.label_space: {entry.label_space!r} is not one of {', '.join(label_spaces)}; "
            "a label space of tenants' own needs tenants"
        )
    try:
        shares = (
            {entry.label_space: own_shares(entry.label)}
            if space is None
            else shares_of(entry.label, space, _read_alike(space, label_spaces))
        )
    except UnknownLabel as error:
        raise RulesError(f"{where}.label: {error}") from None
    return Rule(
        name=entry.name,
        label_space=entry.label_space,
        labels=tuple(shares[entry.label_space]),
        shares=shares,
        probability=entry.probability,
        turns=entry.turns,
        of_last=entry.turns if entry.of_last is None else entry.of_last,
        speaker=entry.speaker,
        role=entry.role,
        tenants=entry.tenants,
        endpoint=entry.endpoint,
        include_text=entry.include_text,
    )


def _read_alike(
    space: AnyLabelSpace, label_spaces: Mapping[str, AnyLabelSpace]
) -> list[DerivedLabelSpace]:
    """For a rule in `sentiment`, the sentiments of every label space; otherwise none."""
    derived = [each for each in label_spaces.values() if isinstance(each, DerivedLabelSpace)]
    sentiments = [each for each in derived if is_sentiment(each)]
    if space.name != _SENTIMENT or space not in sentiments:
        return []
    return [each for each in sentiments if each is not space]


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and parts.username is None
            and not parts.fragment
            and url.isascii()
            and url.isprintable()
            and " " not in url
        )
    except ValueError:
        return False
