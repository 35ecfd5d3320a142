"""API keys and the file that lists them.

A key is 256 random bits, and the file holds only its SHA-256. That is enough for random keys, which
cannot be guessed: a slow, salted hash, as for passwords, would only slow requests down. Errors show
no value of the file: it may be a key, put there by mistake.
"""

import hashlib
import json
import re
import secrets
import tomllib
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from service.unique_names import NameTwice, unique_names

_PREFIX = "erc_"
_RANDOM_BYTES = 32
# The shortest key that `keys hash` accepts as random: 192 bits in base64.
_LEAST_CHARACTERS = 32
_KEY = re.compile(r"[\x21-\x7e]+")
_NAME = re.compile(r"[a-z0-9_]{1,24}")


class KeysError(ValueError):
    """The keys are invalid, or the service would be open to everybody."""


class Scope(StrEnum):
    """A permission of a key; `admin` includes all."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Quota(_Entry):
    """The quota of one key, per process; a field that is not set is not limited.

    Attributes:
        requests_per_s: the sustained rate.
        burst: the most requests at once after a pause; by default those of one second.
        utterances_per_min: the most utterances that the model reads per minute.
        batch_utterances: the most in one batch; the service's own limit holds too.
    """

    requests_per_s: PositiveFloat | None = None
    burst: PositiveInt | None = None
    utterances_per_min: PositiveInt | None = None
    batch_utterances: PositiveInt | None = None

    @model_validator(mode="after")
    def a_burst_is_of_requests(self) -> Self:
        if self.burst is not None and self.requests_per_s is None:
            raise ValueError("burst has no effect without requests_per_s")
        return self


_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class Key(_Entry):
    """A key's entry in the file: everything but the key itself.

    Attributes:
        id: its name, for people; not a secret.
        tenant: owner of the dialogues and demonstrations that it gives access to.
        sha256: of the key, in hexadecimal digits.
        not_after: the time from which it is refused.
    """

    id: _Name
    tenant: _Name
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    not_after: AwareDatetime | None = None
    quota: Quota = Quota()


class _Keys(_Entry):
    keys: Annotated[tuple[Key, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def each_has_an_id_and_a_hash_of_its_own(self) -> Self:
        for name in ("id", "sha256"):
            if len({getattr(key, name) for key in self.keys}) < len(self.keys):
                raise ValueError(f"two keys have the same {name}")
        return self


def read_keys(file: Path) -> tuple[Key, ...]:
    """Read the keys of a file: JSON if its name ends in `.json`, else TOML.

    Raises:
        KeysError: it cannot be read, or is invalid; the message shows no value.
    """
    try:
        content = file.read_text("utf-8")
        if file.suffix == ".json":
            values = json.loads(content, object_pairs_hook=unique_names)
        else:
            values = tomllib.loads(content)
        return _Keys.model_validate(values).keys
    except OSError as error:
        raise KeysError(f"cannot read {file}: {error.strerror}") from None
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        first = faults[0]
        # The name of a stray field is shown only if it cannot be a key.
        steps = [str(step) for step in first["loc"]]
        where = ".".join(step if _NAME.fullmatch(step) else "..." for step in steps) or "keys"
        raise KeysError(f"{file}: {where}: {first['msg']}") from None
    except NameTwice:
        raise KeysError(f"{file}: an object has a name twice; keep one of them") from None
    except (ValueError, RecursionError) as error:
        where_in_file = re.search(r"line \d+,? column \d+", str(error))
        where = f" at {where_in_file[0]}" if where_in_file else ""
        kind = "JSON" if file.suffix == ".json" else "TOML"
        raise KeysError(f"{file} is not {kind}{where}") from None


def new_key() -> str:
    """A new key of 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def digest(key: str) -> bytes:
    """The SHA-256 of a key as it appears in a header."""
    return hashlib.sha256(key.encode("latin-1")).digest()


def hash_given(key: str) -> str:
    """The hash, for the file, of a key that was made elsewhere.

    Raises:
        KeysError: the key is too short to be random, or cannot be sent in a header.
    """
    if len(key) < _LEAST_CHARACTERS:
        raise KeysError(f"a key has at least {_LEAST_CHARACTERS} random characters")
    if not _KEY.fullmatch(key):
        raise KeysError("a key contains only visible ASCII characters")
    return digest(key).hex()


def entry(key: Key) -> str:
    """A key's entry in TOML, without a quota."""
    lines = [
        "[[keys]]",
        f'id = "{key.id}"',
        f'tenant = "{key.tenant}"',
        f"scopes = {json.dumps([scope for scope in Scope if scope in key.scopes])}",
        f'sha256 = "{key.sha256}"',
    ]
    if key.not_after is not None:
        lines.append(f"not_after = {_moment(key.not_after)}")
    return "\n".join(lines)


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
