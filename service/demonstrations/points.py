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
EDITION = "edition"  # left out of the payload of what people add
TENANT = "tenant"  # left out of the payload of what is shared
KIND = "kind"  # left out of the payload of what is no correction
CORRECTION = "correction"

# Points in one write. Embedded, a write of so many keeps all other threads waiting for 5 ms.
POINTS_A_WRITE = 256

# Demonstrations looked up in one read. Embedded, so many keep all other threads waiting for 4 ms.
IDS_A_READ = 256

# Free on the disk, or the embedded index is not written: as much as a portion of rows takes in the
# log and, when that is flushed, in the segments, several times over.
ROOM_BYTES = 64 * 2**20

# Up to so many demonstrations of a label space a search looks at every vector, 2 ms on one core.
# Beyond, it has a graph.
EXACT_UP_TO = 30_000

# The graph: edges of a vector, and how many of the nearest are kept in view while it is built and
# while it is searched. Of the nearest four among 75,000 a search finds 0.997; with half as many
# candidates of a build 0.990, of a search 0.982. More edges pay among more: 0.978 of a million.
EDGES = 32
CANDIDATES_OF_A_BUILD = 200
CANDIDATES_OF_A_SEARCH = 256

# Qdrant's point ids are numbers or UUIDs. Another namespace would orphan every stored point.
_NAMESPACE = uuid.UUID("177b3c9f-ea9b-4375-8d7c-9d0fb48593ec")


@dataclass(frozen=True, slots=True)
class Row:
    """A point before it takes a client library's own shape."""

    point_id: uuid.UUID
    vector: list[float]
    payload: dict[str, Any]


def point_id(demonstration_id: str, tenant: str | None = None) -> uuid.UUID:
    """The id of the point of a tenant's demonstration, or of a shared one."""
    space = _NAMESPACE if tenant is None else uuid.uuid5(_NAMESPACE, f"{TENANT} {tenant}")
    return uuid.uuid5(space, demonstration_id)


def points_of(demonstration_id: str, tenant: str | None) -> list[uuid.UUID]:
    """Where a demonstration may lie that the tenant finds: among its own, among the shared."""
    own = [] if tenant is None else [point_id(demonstration_id, tenant)]
    return [*own, point_id(demonstration_id)]


def found_of(payloads: Iterable[Mapping[str, Any] | None], demonstration_id: str) -> Demonstration:
    """The demonstration among those of `points_of`, the tenant's own before the shared one.

    Raises:
        DemonstrationNotFound: there is none.
    """
    found = sorted((payload or {} for payload in payloads), key=lambda held: TENANT not in held)
    if not found:
        raise DemonstrationNotFound(f"there is no demonstration {demonstration_id!r}")
    return demonstration_of(found[0])


def looked_up(demonstration_ids: Collection[str], tenant: str | None) -> Iterator[list[uuid.UUID]]:
    """Where demonstrations may lie that the tenant finds, in portions to read one by one."""
    ids = list(dict.fromkeys(demonstration_ids))
    for start in range(0, len(ids), IDS_A_READ):
        portion = ids[start : start + IDS_A_READ]
        yield [point for each in portion for point in points_of(each, tenant)]


def texts_of(payloads: Iterable[Mapping[str, Any] | None]) -> dict[str, str]:
    """The texts of demonstrations by their ids, a tenant's own before the shared one."""
    shared_first = sorted((payload or {} for payload in payloads), key=lambda held: TENANT in held)
    return {held["id"]: held["text"] for held in shared_first}


def writes(
    demonstrations: Sequence[Demonstration],
    vectors: Vectors,
    edition: str | None,
    tenant: str | None = None,
) -> Iterator[list[Row]]:
    """The points of some demonstrations, in portions to write one by one.

    Of demonstrations with the same id, the last is taken.

    Raises:
        ValueError: as `DemonstrationStore.add` says.
    """
    expected = (len(demonstrations), DIMENSIONS)
    if vectors.shape != expected or not np.isfinite(vectors).all():
        raise ValueError(f"need finite vectors of shape {expected}, got shape {vectors.shape}")
    last = {d.id: (d, vector) for d, vector in zip(demonstrations, vectors, strict=True)}
    found = list(last.values())
    return (
        [_row(*pair, edition, tenant) for pair in found[start : start + POINTS_A_WRITE]]
        for start in range(0, len(found), POINTS_A_WRITE)
    )


def row_of_correction(correction: Correction, vector: Vector, tenant: str) -> Row:
    """The point of a correction.

    Raises:
        ValueError: as `DemonstrationStore.add` says.
    """
    ((row,),) = writes([correction.demonstration], vector[None], None, tenant)
    payload = row.payload | {KIND: CORRECTION, "said_at": correction.said_at}
    if correction.context is not None:
        payload["context"] = base64.b64encode(correction.context.astype("<f2").tobytes()).decode()
    return Row(row.point_id, row.vector, payload)


def kilobytes(vectors: int) -> int:
    """What so many vectors take up, the measure of Qdrant's thresholds."""
    return max(1, vectors * DIMENSIONS * 4 // 1024)


def query_vector(vector: Vector, k: int) -> list[float]:
    """The vector of a query, checked.

    Raises:
        ValueError: as `DemonstrationStore.nearest` says.
    """
    if vector.shape != (DIMENSIONS,) or not np.isfinite(vector).all():
        raise ValueError(f"need a finite vector of {DIMENSIONS} numbers, got shape {vector.shape}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    numbers: list[float] = vector.tolist()
    return numbers


def demonstration_of(payload: Mapping[str, Any] | None) -> Demonstration:
    """The demonstration that a point's payload holds."""
    held = payload or {}
    return Demonstration(held["id"], held[LABEL_SPACE], held["label"], held["text"])


def match_of(payload: Mapping[str, Any] | None, score: float) -> Match:
    """A found point as a match; rounding may have lifted a cosine above 1."""
    return Match(demonstration_of(payload), max(-1.0, min(1.0, score)))


def correction_of(payload: Mapping[str, Any] | None, score: float) -> CorrectionMatch:
    """A found point as a correction."""
    held, match = payload or {}, match_of(payload, score)
    context = held.get("context")
    vector = None if context is None else _unit(np.frombuffer(base64.b64decode(context), "<f2"))
    return CorrectionMatch(
        Correction(match.demonstration, vector, held["said_at"]), match.similarity
    )


def _unit(numbers: np.ndarray[Any, Any]) -> Vector:
    """The vector of length 1 that these numbers, which may be rounded, are of."""
    vector = numbers.astype(np.float32)
    found: Vector = vector / np.float32(np.linalg.norm(vector))
    return found


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page of a listing as a scroll by point id; `after` is one.

    A scroll begins at a point id, that one included, so it reads one point more at either end: the
    last one of the page before, if it is still there, and one that tells whether a page follows.
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
        """The page, from what the scroll found."""
        found = list(payloads)
        if found and _point_of(found[0]) == self.scroll_offset:
            found = found[1:]
        kept = found[: self.limit]
        following = str(_point_of(kept[-1])) if len(found) > self.limit else None
        return Page(tuple(map(demonstration_of, kept)), following)


def _point_of(payload: Mapping[str, Any] | None) -> uuid.UUID:
    held = payload or {}
    return point_id(held["id"], held.get(TENANT))


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
