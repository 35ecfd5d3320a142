"""The records of a stored dialogue, and its versions.

A writer that expects a version does not overwrite changes that it has not seen.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from service.errors import DialogueChanged


@dataclass(frozen=True, slots=True)
class Version:
    """A state of a dialogue; every write makes another one.

    Attributes:
        generation: tells the dialogue from others under the same id, before or after it.
        number: grows with every write.
    """

    generation: int
    number: int

    def __str__(self) -> str:
        return f"{self.generation:x}.{self.number}"


@dataclass(frozen=True, slots=True)
class Expected:
    """The versions of a dialogue that a writer expects.

    Attributes:
        versions: as text; None: any, provided that the dialogue exists.
    """

    versions: frozenset[str] | None

    def allows(self, version: Version) -> bool:
        """Whether a dialogue of this version is as expected."""
        return self.versions is None or str(version) in self.versions

    def check(self, version: Version | None) -> None:
        """Refuse a dialogue of another version, or none.

        Raises:
            DialogueChanged: the version is not as expected, or there is no dialogue.
        """
        if version is None or not self.allows(version):
            raise DialogueChanged("the dialogue has changed: read it again")


Name = tuple[str, str]
"""A dialogue's tenant and its id."""


@dataclass(frozen=True, slots=True)
class Correction:
    """The label that a person gives an utterance; `created_at` is in UTC."""

    label_space: str
    label: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredUtterance:
    """One utterance as it is stored.

    Attributes:
        prediction: the JSON object that was given to `append`, unchanged.
        created_at: in UTC.
        description: of the scene; None: none was given.
        start, end: when it was spoken, in seconds from the dialogue's beginning, where given.
        role: the speaker's part in the dialogue; None: none was given.
        correction: the label that a person gave it; None: none did.
    """

    index: int
    speaker: str
    speaker_index: int
    text: str
    label_space: str
    prediction: dict[str, Any]
    created_at: datetime
    description: str | None = None
    start: float | None = None
    end: float | None = None
    role: str | None = None
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


def correction_of(row: Row[*tuple[Any, ...]]) -> Correction | None:
    """The correction in a row of a timeline; None: the utterance has none."""
    if row.corrected_label is None:
        return None
    return Correction(row.corrected_label_space, row.corrected_label, row.corrected_at)


@dataclass(frozen=True, slots=True)
class Figures:
    """What summaries and lists use of a prediction.

    Attributes:
        label: the most probable one.
        probability: the label's.
        valence: in millionths; None: the label space has none.
        margin: the label's probability minus the next, 0 to 1; None: no list has the utterance.
    """

    label: str
    probability: float
    valence: int | None
    margin: float | None = None


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
