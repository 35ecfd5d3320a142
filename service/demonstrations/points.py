"""The Qdrant point of a demonstration: id and payload."""

import base64
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.conversation.dialogue import Demonstration
from service.demonstrations.encoder import DIMENSIONS, Vector, Vectors
from service.demonstrations.store import Correction, CorrectionMatch, Match, Page
from service.errors import DemonstrationNotFound

LABEL_SPACE = "label_space"
EDITION = "edition"  # absent from demonstrations that people add
TENANT = "tenant"  # absent from shared demonstrations
KIND = "kind"  # absent unless it is a correction
CORRECTION = "correction"

# Points in one write. In the embedded store such a write blocks all other threads for 5 ms.
POINTS_A_WRITE = 256

# Demonstrations in one read. In the embedded store such a read blocks all other threads for 4 ms.
IDS_A_READ = 256

# The payload key of `Correction.corrected_at`; another one would not read stored corrections.
_CORRECTED_AT = "said_at"

# Qdrant's point ids are numbers or UUIDs. Another namespace would orphan every stored point.
_NAMESPACE = uuid.UUID("177b3c9f-ea9b-4375-8d7c-9d0fb48593ec")


@dataclass(frozen=True, slots=True)
class Row:
    """A point, independent of the client library."""

    point_id: uuid.UUID
    vector: list[float]
    payload: dict[str, Any]


def point_id(demonstration_id: str, tenant: str | None = None) -> uuid.UUID:
    """The id of the point of a tenant's demonstration, or of a shared one."""
    space = _NAMESPACE if tenant is None else uuid.uuid5(_NAMESPACE, f"{TENANT} {tenant}")
    return uuid.uuid5(space, demonstration_id)


def points_of(demonstration_id: str, tenant: str | None) -> list[uuid.UUID]:
    """The ids of the points that may hold a demonstration: the tenant's own, then the shared."""
    own = [] if tenant is None else [point_id(demonstration_id, tenant)]
    return [*own, point_id(demonstration_id)]


def found_of(payloads: Iterable[Mapping[str, Any] | None], demonstration_id: str) -> Demonstration:
    """The demonstration in the payloads of `points_of`: the tenant's own, else the shared one.

    Raises:
        DemonstrationNotFound: there is none.
    """
    own_first = sorted((payload or {} for payload in payloads), key=lambda held: TENANT not in held)
    if not own_first:
        raise DemonstrationNotFound(f"there is no demonstration {demonstration_id!r}")
    return demonstration_of(own_first[0])


def looked_up(demonstration_ids: Collection[str], tenant: str | None) -> Iterator[list[uuid.UUID]]:
    """The ids of the points that may hold the demonstrations, in batches of one read each."""
    ids = list(dict.fromkeys(demonstration_ids))
    for start in range(0, len(ids), IDS_A_READ):
        portion = ids[start : start + IDS_A_READ]
        yield [
            point for demonstration_id in portion for point in points_of(demonstration_id, tenant)
        ]


def texts_of(payloads: Iterable[Mapping[str, Any] | None]) -> dict[str, str]:
    """The texts of demonstrations by id; a tenant's own takes precedence over the shared one."""
    shared_first = sorted((payload or {} for payload in payloads), key=lambda held: TENANT in held)
    return {held["id"]: held["text"] for held in shared_first}


def writes(
    demonstrations: Sequence[Demonstration],
    vectors: Vectors,
    edition: str | None,
    tenant: str | None = None,
) -> Iterator[list[Row]]:
    """The points of demonstrations, in batches of one write each.

    Of demonstrations with the same id, the last one counts.

    Raises:
        ValueError: as `DemonstrationStore.add`.
    """
    expected = (len(demonstrations), DIMENSIONS)
    if vectors.shape != expected or not np.isfinite(vectors).all():
        raise ValueError(f"need finite vectors of shape {expected}, got shape {vectors.shape}")
    latest = {d.id: (d, vector) for d, vector in zip(demonstrations, vectors, strict=True)}
    rows = list(latest.values())
    return (
        [_row(*pair, edition, tenant) for pair in rows[start : start + POINTS_A_WRITE]]
        for start in range(0, len(rows), POINTS_A_WRITE)
    )


def row_of_correction(correction: Correction, vector: Vector, tenant: str) -> Row:
    """The point of a correction.

    Raises:
        ValueError: as `DemonstrationStore.add`.
    """
    ((row,),) = writes([correction.demonstration], vector[None], None, tenant)
    payload = row.payload | {KIND: CORRECTION, _CORRECTED_AT: correction.corrected_at}
    if correction.context is not None:
        payload["context"] = base64.b64encode(correction.context.astype("<f2").tobytes()).decode()
    return Row(row.point_id, row.vector, payload)


def query_vector(vector: Vector, k: int) -> list[float]:
    """Check a query, and return its vector as a list.

    Raises:
        ValueError: as `DemonstrationStore.nearest`.
    """
    if vector.shape != (DIMENSIONS,) or not np.isfinite(vector).all():
        raise ValueError(f"need a finite vector of {DIMENSIONS} numbers, got shape {vector.shape}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    numbers: list[float] = vector.tolist()
    return numbers


def demonstration_of(payload: Mapping[str, Any] | None) -> Demonstration:
    """The demonstration in a point's payload."""
    fields = payload or {}
    return Demonstration(fields["id"], fields[LABEL_SPACE], fields["label"], fields["text"])


def match_of(payload: Mapping[str, Any] | None, score: float) -> Match:
    """A scored point as a match; rounding may have lifted its cosine above 1."""
    return Match(demonstration_of(payload), max(-1.0, min(1.0, score)))


def correction_of(payload: Mapping[str, Any] | None, score: float) -> CorrectionMatch:
    """A scored point as a correction."""
    fields, match = payload or {}, match_of(payload, score)
    context = fields.get("context")
    vector = None if context is None else _unit(np.frombuffer(base64.b64decode(context), "<f2"))
    return CorrectionMatch(
        Correction(match.demonstration, vector, fields[_CORRECTED_AT]), match.similarity
    )


def _unit(numbers: np.ndarray[Any, Any]) -> Vector:
    """Normalize a vector, which may be rounded, to length 1."""
    vector = numbers.astype(np.float32)
    unit: Vector = vector / np.float32(np.linalg.norm(vector))
    return unit


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page of a listing as a scroll by point id; `after` is one.

    A scroll includes the point that it begins at, so it reads one point more at either end: the
    last one of the previous page, if it still exists, and one that tells whether a page follows.
    """

    limit: int
    after: str | None

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit must be at least 1, got {self.limit}")
        if self.after is not None:
            uuid.UUID(self.after)

    @property
    def scroll_offset(self) -> uuid.UUID | None:
        return None if self.after is None else uuid.UUID(self.after)

    @property
    def scroll_limit(self) -> int:
        return self.limit + 2

    def page(self, payloads: Sequence[Mapping[str, Any] | None]) -> Page:
        """The page, from the payloads that the scroll returned."""
        records = list(payloads)
        if records and _point_of(records[0]) == self.scroll_offset:
            records = records[1:]
        kept = records[: self.limit]
        following = str(_point_of(kept[-1])) if len(records) > self.limit else None
        return Page(tuple(map(demonstration_of, kept)), following)


def _point_of(payload: Mapping[str, Any] | None) -> uuid.UUID:
    fields = payload or {}
    return point_id(fields["id"], fields.get(TENANT))


def _row(
    demonstration: Demonstration, vector: Vector, edition: str | None, tenant: str | None
) -> Row:
    payload = {
        "id": demonstration.id,
        LABEL_SPACE: demonstration.label_space,
        "label": demonstration.label,
        "text": demonstration.text,
        **({} if edition is None else {EDITION: edition}),
        **({} if tenant is None else {TENANT: tenant}),
    }
    return Row(point_id(demonstration.id, tenant), vector.tolist(), payload)
