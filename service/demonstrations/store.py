"""The protocol of demonstration stores."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.conversation.dialogue import Demonstration
from service.demonstrations.encoder import Vector, Vectors


@dataclass(frozen=True, slots=True)
class Match:
    """A demonstration found by its nearness.

    Attributes:
        similarity: cosine of the angle between the two vectors, -1 to 1.
    """

    demonstration: Demonstration
    similarity: float


@dataclass(frozen=True, slots=True)
class Correction:
    """A demonstration made of what a person said of an utterance, with where it was said.

    Attributes:
        context: of the lines before the utterance, length 1; None where it begins its dialogue.
        said_at: when the person said it, in seconds since 1970.
    """

    demonstration: Demonstration
    context: Vector | None
    said_at: float


@dataclass(frozen=True, slots=True)
class CorrectionMatch:
    """A correction found by its nearness; `similarity` as in `Match`."""

    correction: Correction
    similarity: float

    @property
    def match(self) -> Match:
        return Match(self.correction.demonstration, self.similarity)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing.

    Attributes:
        next: what to ask the next page with, as `after`; None on the last page.
    """

    demonstrations: tuple[Demonstration, ...]
    next: str | None


class IndexMismatch(Exception):
    """An index cannot be used with this encoder: another one built it, or nobody knows which."""


class DemonstrationStore(Protocol):
    """Demonstrations by the cosine similarity of their vectors.

    A method raises DemonstrationsUnavailable when the store does not answer, never a client
    library's own error. What has been written when a method returns outlives the process.

    The demonstrations that ship with the service come in editions. A store knows which of its
    demonstrations are of which edition, so that a new edition replaces the one before and leaves
    alone what people added.

    What people add belongs to their tenant: nobody else finds it, and its id is the tenant's own.
    The shipped ones, and any other without a tenant, are shared: every tenant finds them.
    """

    async def add(
        self,
        demonstrations: Sequence[Demonstration],
        vectors: Vectors,
        edition: str | None = None,
        tenant: str | None = None,
    ) -> None:
        """Write demonstrations, replacing the tenant's with the same ids; of equal ids the last
        counts.

        Args:
            vectors: shape (n, 384), one row a demonstration.
            edition: the edition that they are of; None for what people add.
            tenant: whose they are; None: shared.

        Raises:
            ValueError: another shape, or a number that is not finite.
        """

    async def add_correction(self, correction: Correction, vector: Vector, tenant: str) -> None:
        """Write a tenant's correction, replacing the tenant's demonstration with the same id.

        Raises:
            ValueError: as `add`.
        """

    async def nearest(
        self, vector: Vector, label_space: str, k: int, tenant: str | None = None
    ) -> list[Match]:
        """The k examples of a label space nearest to a vector, best first; no correction is one.

        Among those that are shared, and the tenant's own if one is named.

        Equals have no order. There are fewer than k where the label space has fewer.

        Args:
            vector: shape (384,).
            k: at least 1.

        Raises:
            ValueError: another shape, a number that is not finite, or k < 1.
        """

    async def corrections(
        self, vector: Vector, label_space: str, k: int, tenant: str
    ) -> list[CorrectionMatch]:
        """The k corrections of a tenant's in a label space nearest to a vector, best first.

        Raises:
            ValueError: as `nearest`.
        """

    async def get(self, demonstration_id: str, tenant: str | None = None) -> Demonstration:
        """One demonstration: the tenant's own with this id, or else the shared one.

        Raises:
            DemonstrationNotFound: there is none with this id.
        """

    async def texts(
        self, demonstration_ids: Collection[str], tenant: str | None = None
    ) -> dict[str, str]:
        """The texts of demonstrations by their ids, each as `get` finds it; of those that exist."""

    async def delete(self, demonstration_id: str, tenant: str | None = None) -> None:
        """Delete one of the tenant's own demonstrations; where none is named, a shared one.

        Raises:
            DemonstrationNotFound: there is none with this id.
        """

    async def count(self, label_space: str | None = None, *, tenant: str | None = None) -> int:
        """How many demonstrations a label space has, or all of them.

        Args:
            tenant: counts its own alone; None: whosever they are.
        """

    async def count_corrections(self, label_space: str, tenant: str) -> int:
        """How many corrections a tenant has in a label space."""

    async def edition(self) -> str | None:
        """The edition that is completely loaded; None before the first."""

    async def finish_edition(self, edition: str) -> None:
        """Declare an edition completely loaded and delete what is left of other editions."""

    async def ping(self) -> None:
        """Return if the store answers."""

    async def close(self) -> None:
        """Release what the store holds; it is of no use afterwards."""

    async def list(
        self,
        label_space: str | None = None,
        limit: int = 100,
        after: str | None = None,
        tenant: str | None = None,
    ) -> Page:
        """One page of the demonstrations, in an arbitrary order that stays the same.

        Of those that are shared, and of the tenant's own if one is named.

        Each demonstration that is there from the first page to the last is on exactly one.

        Args:
            limit: at least 1.
            after: the `next` of the page before; None for the first page.

        Raises:
            ValueError: limit < 1, or `after` is no page's `next`.
        """
