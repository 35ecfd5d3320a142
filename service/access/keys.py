"""API keys and the file that lists them.

A key is 256 random bits, and the file holds its SHA-256 alone. That is enough for random keys: they
are too many to try, so that a slow hash with salt, as passwords need it, would only make requests
slower. No value of the file is shown in an error: it may be a key, put there by mistake.
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
# What `keys hash` takes for random: as many characters as 192 bits have in base64.
_LEAST_CHARACTERS = 32
_KEY = re.compile(r"[\x21-\x7e]+")
_NAME = re.compile(r"[a-z0-9_]{1,24}")


class KeysError(ValueError):
    """The keys cannot be used as they are, or the service would be open to all."""


class Scope(StrEnum):
    """What a key may be used for; `admin` is for everything."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Quota(_Entry):
    """How much one key may ask for, of one process; what is not set is not bounded.

    Attributes:
        requests_per_s: how many, in the long run.
        burst: how many at once after a pause; by default those of one second.
        utterances_per_min: utterances read by the model.
        batch_utterances: in one batch; the service's own limit holds too.
    """

    requests_per_s: PositiveFloat | None = None
    burst: PositiveInt | None = None
    utterances_per_min: PositiveInt | None = None
    batch_utterances: PositiveInt | None = None

    @model_validator(mode="after")
    def a_burst_is_of_requests(self) -> Self:
        if self.burst is not None and self.requests_per_s is None:
            raise ValueError("burst says nothing without requests_per_s")
        return self


_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class Key(_Entry):
    """A key as the file has it: everything but the key itself.

    Attributes:
        id: its name, for people; no secret.
        tenant: whose dialogues and demonstrations it is for.
        sha256: of the key, in hexadecimal digits.
        not_after: the moment from which on it is refused.
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
    """The keys of a file, which is JSON where its name ends so and TOML otherwise.

    Raises:
        KeysError: it cannot be read, or is not as it should be; no value is shown.
    """
    try:
        content = file.read_text("utf-8")
        if file.suffix == ".json":
            found = json.loads(content, object_pairs_hook=unique_names)
        else:
            found = tomllib.loads(content)
        return _Keys.model_validate(found).keys
    except OSError as error:
        raise KeysError(f"cannot read {file}: {error.strerror}") from None
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        first = faults[0]
        # The name of what does not belong there is shown only where it can be no key.
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
    """A key that nobody has, of 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def digest(key: str) -> bytes:
    """The SHA-256 of a key, as it stands in a header."""
    return hashlib.sha256(key.encode("latin-1")).digest()


def hash_given(key: str) -> str:
    """The hash of a key that was made elsewhere, as the file has it.

    Raises:
        KeysError: it cannot be a random key, or not be sent in a header.
    """
    if len(key) < _LEAST_CHARACTERS:
        raise KeysError(f"a key has {_LEAST_CHARACTERS} random characters at least")
    if not _KEY.fullmatch(key):
        raise KeysError("a key has visible ASCII characters only")
    return digest(key).hex()


def entry(key: Key) -> str:
    """A key as a file in TOML has it; quotas are for people to add."""
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
