"""The protocol of demonstration stores, and what they refuse.

An index belongs to one encoder: another one's vectors would be compared with these as if they were
alike, so opening it raises `IndexMismatch`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.conversation.dialogue import Demonstration
from service.demonstrations.encoder import Vector, Vectors


@dataclass(frozen=True, slots=True)
class Match:
    """A demonstration that a search returned.

    Attributes:
        similarity: cosine of the angle between the two vectors, -1 to 1.
    """

    demonstration: Demonstration
    similarity: float


@dataclass(frozen=True, slots=True)
class Correction:
    """A demonstration made from a person's correction of an utterance, with its context.

    Attributes:
        context: the vector, of length 1, of the lines before the utterance; None if it begins its
            dialogue.
        corrected_at: the time of the correction, in seconds since 1970.
    """

    demonstration: Demonstration
    context: Vector | None
    corrected_at: float


@dataclass(frozen=True, slots=True)
class CorrectionMatch:
    """A correction that a search returned; `similarity` as in `Match`."""

    correction: Correction
    similarity: float

    @property
    def match(self) -> Match:
        return Match(self.correction.demonstration, self.similarity)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing.

    Attributes:
        next: the next page's `after`; None on the last page.
    """

    demonstrations: tuple[Demonstration, ...]
    next: str | None


class IndexMismatch(Exception):
    """An index cannot be used with this encoder: another one built it, or it is unknown which.

    Raised at the start, by `qdrant_edge.card` for an embedded index and by `qdrant_server` for a
    server.
    """


class DemonstrationStore(Protocol):
    """Demonstrations by the cosine similarity of their vectors.

    A method raises DemonstrationsUnavailable if the store does not answer, never a client library's
    own error. When a method returns, its writes are durable.

    The demonstrations that ship with the service come in editions. A store records the edition of
    each, so that a new edition replaces the previous one and keeps what people added.

    A demonstration that people add belongs to their tenant: nobody else finds it, and its id is the
    tenant's own. Shipped ones, and any other without a tenant, are shared: every tenant finds them.
    """

    async def add(
        self,
        demonstrations: Sequence[Demonstration],
        vectors: Vectors,
        edition: str | None = None,
        tenant: str | None = None,
    ) -> None:
        """Write demonstrations, replacing the tenant's with the same ids; the last of equal ids
        counts.

        Args:
            vectors: shape (n, 384), one row per demonstration.
            edition: their edition; None for what people add.
            tenant: their owner; None: shared.

        Raises:
            ValueError: `vectors` has another shape, or a number is not finite.
        """

    async def add_correction(self, correction: Correction, vector: Vector, tenant: str) -> None:
        """Write a tenant's correction, replacing the tenant's demonstration with the same id.

        Raises:
            ValueError: as `add`.
        """

    async def nearest(
        self, vector: Vector, label_space: str, k: int, tenant: str | None = None
    ) -> list[Match]:
        """The k examples of a label space nearest to a vector, best first, without corrections.

        Searches the shared ones, and the tenant's own if `tenant` is set. The order of equals is
        undefined. There are fewer than k if the label space has fewer.

        Args:
            vector: shape (384,).
            k: at least 1.

        Raises:
            ValueError: `vector` has another shape, a number is not finite, or k < 1.
        """

    async def corrections(
        self, vector: Vector, label_space: str, k: int, tenant: str
    ) -> list[CorrectionMatch]:
        """The tenant's k corrections in a label space nearest to a vector, best first.

        Raises:
            ValueError: as `nearest`.
        """

    async def get(self, demonstration_id: str, tenant: str | None = None) -> Demonstration:
        """The tenant's own demonstration with this id, or else the shared one.

        Raises:
            DemonstrationNotFound: there is none with this id.
        """

    async def texts(
        self, demonstration_ids: Collection[str], tenant: str | None = None
    ) -> dict[str, str]:
        """The texts of the demonstrations that exist, by id, each as `get` returns it."""

    async def delete(self, demonstration_id: str, tenant: str | None = None) -> None:
        """Delete one of the tenant's own demonstrations; without a tenant, a shared one.

        Raises:
            DemonstrationNotFound: there is none with this id.
        """

    async def count(self, label_space: str | None = None, *, tenant: str | None = None) -> int:
        """The number of demonstrations in a label space, or in all.

        Args:
            tenant: counts only its own; None: counts all, whoever owns them.
        """

    async def count_corrections(self, label_space: str, tenant: str) -> int:
        """The number of a tenant's corrections in a label space."""

    async def edition(self) -> str | None:
        """The edition that is completely loaded; None before the first."""

    async def finish_edition(self, edition: str) -> None:
        """Mark an edition as completely loaded, and delete the rest of other editions."""

    async def ping(self) -> None:
        """Return if the store answers."""

    async def close(self) -> None:
        """Release the store's resources; it cannot be used afterwards."""

    async def list(
        self,
        label_space: str | None = None,
        limit: int = 100,
        after: str | None = None,
        tenant: str | None = None,
    ) -> Page:
        """One page of the demonstrations, in an arbitrary but stable order.

        Lists the shared ones, and the tenant's own if `tenant` is set. A demonstration that exists
        from the first page to the last is on exactly one of them.

        Args:
            limit: at least 1.
            after: the `next` of the previous page; None for the first page.

        Raises:
            ValueError: limit < 1, or `after` is not a page's `next`.
        """
