"""What is read of a stored dialogue."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from service.sessions.versions import Version

Name = tuple[str, str]
"""A dialogue's tenant and its id."""


@dataclass(frozen=True, slots=True)
class Correction:
    """What a person says that an utterance carries; `created_at` is in UTC."""

    label_space: str
    label: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredUtterance:
    """One utterance as it lies in the database.

    Attributes:
        prediction: the JSON object that was given to `append`, unchanged.
        created_at: in UTC.
        description: what the scene looked like, where a description was given.
        correction: what a person says that it carries.
    """

    index: int
    speaker: str
    speaker_index: int
    text: str
    label_space: str
    prediction: dict[str, Any]
    created_at: datetime
    description: str | None = None
    correction: Correction | None = None


UTTERANCE_COLUMNS = tuple(name for name in StoredUtterance.__slots__ if name != "correction")
"""The columns of `utterances` that are read."""


def utterance_of(
    row: Row[*tuple[Any, ...]], correction: Correction | None = None
) -> StoredUtterance:
    """The utterance in a row that has all of `UTTERANCE_COLUMNS`."""
    values = row._mapping
    return StoredUtterance(
        **{name: values[name] for name in UTTERANCE_COLUMNS}, correction=correction
    )


@dataclass(frozen=True, slots=True)
class Appended:
    """An utterance just stored, and its dialogue's version then."""

    utterance: StoredUtterance
    version: Version


@dataclass(frozen=True, slots=True)
class Timeline:
    """A dialogue, its utterances in order, or some of them.

    Attributes:
        created_at: in UTC.
        length: the number of all its utterances.
    """

    id: str
    created_at: datetime
    version: Version
    length: int
    utterances: tuple[StoredUtterance, ...]
