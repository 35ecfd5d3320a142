"""Retrieval for an utterance: examples for the prompt, and corrections of similar utterances.

A correction was said of an utterance in its dialogue, so it is compared by the lines before, too. A
line's vector is kept from when the line was the utterance that was asked about, so its dialogue's
next turns encode it no second time.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from service.conversation.neighbours import BOTH_BEGIN, ONE_BEGINS
from service.demonstrations.encoder import Encoder, Vector
from service.demonstrations.store import CorrectionMatch, DemonstrationStore, Match
from service.priority import Priority
from service.tracing.stages import Stage, stage

# Corrections that are compared by their context, and where all of these might decide: of "Okay." a
# tenant may have many, each in its own place.
_CANDIDATES = 64
_MOST_CANDIDATES = 512

# Vectors of lines that are kept: 8 MB.
_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for.

    Attributes:
        examples: how many of the nearest.
        least_similarity: of a correction; one that is farther is not found. None: none is.
        decisive_similarity: of a correction that may decide, by its context.
    """

    examples: int
    least_similarity: float | None
    decisive_similarity: float = 1.0


@dataclass(frozen=True, slots=True)
class NearCorrection:
    """A correction of an utterance like the one that is asked about.

    Attributes:
        context_similarity: as `service.conversation.neighbours.Neighbour` has it.
    """

    found: CorrectionMatch
    context_similarity: float


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What was found, both nearest first."""

    examples: tuple[Match, ...] = ()
    corrections: tuple[NearCorrection, ...] = ()


class Retrieval(Protocol):
    """Finds what is like an utterance. Raises DemonstrationsUnavailable."""

    async def nearest(
        self,
        texts: Sequence[str],
        label_space: str,
        wanted: Wanted,
        tenant: str | None,
        priority: Priority,
    ) -> Retrieved: ...


@dataclass(frozen=True, slots=True)
class NearestDemonstrations:
    """The nearest examples of a label space, whatever their label, and a tenant's corrections."""

    encoder: Encoder
    store: DemonstrationStore
    _lines: OrderedDict[bytes, Vector] = field(default_factory=OrderedDict)

    async def nearest(
        self,
        texts: Sequence[str],
        label_space: str,
        wanted: Wanted,
        tenant: str | None,
        priority: Priority,
    ) -> Retrieved:
        """What is nearest to an utterance: shared, or the tenant's own.

        Args:
            texts: the lines before the utterance that are its context, and its own.

        Raises:
            DemonstrationsUnavailable: the encoder or the store does not answer.
        """
        *before, text = texts
        least = None if tenant is None else wanted.least_similarity
        if not wanted.examples and (
            least is None or not await self._has_corrections(label_space, tenant)
        ):
            return Retrieved()
        with stage(Stage.ENCODE):
            vector = await self._vector(text, tenant, priority)
        corrections: list[CorrectionMatch] = []
        examples: list[Match] = []
        with stage(Stage.RETRIEVE):
            if wanted.examples:
                examples = await self.store.nearest(vector, label_space, wanted.examples, tenant)
            if tenant is not None and least is not None:
                found = await self._corrections(vector, label_space, wanted, tenant)
                corrections = self._told_apart(text, [c for c in found if c.similarity >= least])
        if not corrections:
            return Retrieved(tuple(examples))
        with stage(Stage.ENCODE):
            vectors = await asyncio.gather(
                *(self._vector(line, tenant, priority) for line in before)
            )
        context = context_of(vectors)
        near = tuple(
            NearCorrection(each, contexts_alike(context, each.correction.context))
            for each in corrections
        )
        return Retrieved(tuple(examples), near)

    async def _corrections(
        self, vector: Vector, label_space: str, wanted: Wanted, tenant: str
    ) -> list[CorrectionMatch]:
        """The nearest by their lines, and all that might decide."""
        found = await self.store.corrections(vector, label_space, _CANDIDATES, tenant)
        if len(found) == _CANDIDATES and found[-1].similarity >= wanted.decisive_similarity:
            found = await self.store.corrections(vector, label_space, _MOST_CANDIDATES, tenant)
        return found

    def _told_apart(self, text: str, found: list[CorrectionMatch]) -> list[CorrectionMatch]:
        """Those found that are not near for other words only that the encoder does not know."""
        unknown = self.encoder.unknown(text) if found else frozenset()
        if not unknown:
            return found
        return [
            each
            for each in found
            if self.encoder.unknown(each.correction.demonstration.text) in (unknown, frozenset())
        ]

    async def _has_corrections(self, label_space: str, tenant: str | None) -> bool:
        if tenant is None:
            return False
        with stage(Stage.RETRIEVE):
            return await self.store.count_corrections(label_space, tenant) > 0

    async def _vector(self, text: str, tenant: str | None, priority: Priority) -> Vector:
        """A line's vector, kept for those who ask for it soon after."""
        # By a hash, so that no text is kept; by tenant, so that none learns what another one said.
        whose = hashlib.sha256((tenant or "").encode()).digest()
        key = hashlib.blake2b(text.encode(), digest_size=16, key=whose).digest()
        vector = self._lines.get(key)
        if vector is None:
            vector = await self.encoder.encode(text, priority)
            self._lines[key] = vector
            if len(self._lines) > _KEPT:
                self._lines.popitem(last=False)
        self._lines.move_to_end(key)
        return vector


def context_of(vectors: Sequence[Vector]) -> Vector | None:
    """The vector, of length 1, of the lines before an utterance; None where there are none."""
    if not vectors:
        return None
    together: Vector = np.sum(np.stack(vectors), axis=0, dtype=np.float32)
    length = np.linalg.norm(together)
    if length == 0:
        return None
    context: Vector = together / length
    return context


def contexts_alike(one: Vector | None, other: Vector | None) -> float:
    """The similarity of two contexts, as `service.conversation.neighbours.Neighbour` has it."""
    if one is None or other is None:
        return BOTH_BEGIN if one is other else ONE_BEGINS
    return max(-1.0, min(1.0, float(one @ other)))
