"""Retrieval for an utterance: examples for the prompt, and corrections of similar utterances.

A correction belongs to an utterance in its dialogue, so it is compared by the preceding lines too.
A line's vector is cached when the line is the target, so later turns do not encode it again.

A circuit breaker guards it. If a Qdrant server is unavailable or slow, every answer would wait for
it in vain. So answers go on without demonstrations at once, and from time to time a single one
tries the server again.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

import numpy as np

from service.concurrency import loop_time
from service.conversation.neighbours import BOTH_BEGIN, ONE_BEGINS
from service.demonstrations.encoder import Encoder, Vector
from service.demonstrations.store import CorrectionMatch, DemonstrationStore, Match
from service.errors import DemonstrationsUnavailable
from service.failures import log_cause
from service.priority import Priority
from service.tracing import Stage, stage

log = logging.getLogger(__name__)

# The number of corrections that are compared by context, and the number if all of the first might
# decide: a tenant may have many of "Okay.", each in a context of its own.
_CANDIDATES = 64
_MOST_CANDIDATES = 512

# Lines whose vectors are cached: 8 MB.
_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Wanted:
    """A retrieval request.

    Attributes:
        examples: the number of nearest examples.
        least_similarity: the least similarity of a correction; None: retrieve no corrections.
        decisive_similarity: the similarity from which a correction may decide, given its context.
    """

    examples: int
    least_similarity: float | None
    decisive_similarity: float = 1.0


@dataclass(frozen=True, slots=True)
class NearCorrection:
    """A correction of an utterance similar to the target.

    Attributes:
        context_similarity: see `service.conversation.neighbours.Neighbour`.
    """

    corrected: CorrectionMatch
    context_similarity: float


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The result of a retrieval, both parts nearest first."""

    examples: tuple[Match, ...] = ()
    corrections: tuple[NearCorrection, ...] = ()


class Retrieval(Protocol):
    """Finds demonstrations similar to an utterance. Raises DemonstrationsUnavailable."""

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
        """The shared examples and the tenant's own ones nearest to an utterance, and corrections.

        Args:
            texts: the lines of the utterance's context, then its own text.

        Raises:
            DemonstrationsUnavailable: the encoder or the store does not answer.
        """
        *context_lines, text = texts
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
                matches = await self._corrections(vector, label_space, wanted, tenant)
                corrections = self._with_known_words(
                    text, [c for c in matches if c.similarity >= least]
                )
        if not corrections:
            return Retrieved(tuple(examples))
        with stage(Stage.ENCODE):
            vectors = await asyncio.gather(
                *(self._vector(line, tenant, priority) for line in context_lines)
            )
        context = context_of(vectors)
        near = tuple(
            NearCorrection(match, contexts_alike(context, match.correction.context))
            for match in corrections
        )
        return Retrieved(tuple(examples), near)

    async def _corrections(
        self, vector: Vector, label_space: str, wanted: Wanted, tenant: str
    ) -> list[CorrectionMatch]:
        """The nearest corrections by their lines, including all that might decide."""
        matches = await self.store.corrections(vector, label_space, _CANDIDATES, tenant)
        if len(matches) == _CANDIDATES and matches[-1].similarity >= wanted.decisive_similarity:
            matches = await self.store.corrections(vector, label_space, _MOST_CANDIDATES, tenant)
        return matches

    def _with_known_words(self, text: str, matches: list[CorrectionMatch]) -> list[CorrectionMatch]:
        """Discard corrections that are near only because the encoder does not know their words."""
        unknown = self.encoder.unknown(text) if matches else frozenset()
        if not unknown:
            return matches
        return [
            match
            for match in matches
            if self.encoder.unknown(match.correction.demonstration.text) in (unknown, frozenset())
        ]

    async def _has_corrections(self, label_space: str, tenant: str | None) -> bool:
        if tenant is None:
            return False
        with stage(Stage.RETRIEVE):
            return await self.store.count_corrections(label_space, tenant) > 0

    async def _vector(self, text: str, tenant: str | None, priority: Priority) -> Vector:
        """A line's vector, cached for later turns."""
        # Keyed by a hash, so that no text is kept, and by tenant, so that timing reveals nothing.
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
    """The vector, of length 1, of the lines before an utterance; None if there are none."""
    if not vectors:
        return None
    total: Vector = np.sum(np.stack(vectors), axis=0, dtype=np.float32)
    length = np.linalg.norm(total)
    if length == 0:
        return None
    context: Vector = total / length
    return context


def contexts_alike(context: Vector | None, other: Vector | None) -> float:
    """The similarity of two contexts; see `service.conversation.neighbours.Neighbour`."""
    if context is None or other is None:
        return BOTH_BEGIN if context is other else ONE_BEGINS
    return max(-1.0, min(1.0, float(context @ other)))


class Breaker(IntEnum):
    """The breaker's states, with their numbers in metrics."""

    CLOSED = 0  # all answers retrieve
    TRYING = 1  # one answer tries, the others go without
    OPEN = 2  # no answer retrieves


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOptions:
    """When the breaker opens.

    Attributes:
        timeout_s: the most seconds for one retrieval, including the encoder.
        threshold: the number of consecutive failures that open the breaker.
        reset_s: seconds that it stays open before one answer tries again.
    """

    timeout_s: float = 10.0
    threshold: int = 5
    reset_s: float = 10.0


class GuardedRetrieval:
    """Retrieval behind a circuit breaker."""

    def __init__(
        self,
        retrieval: Retrieval,
        options: BreakerOptions = BreakerOptions(),
        show: Callable[[Breaker], None] = lambda _: None,
    ) -> None:
        """Begin closed.

        Args:
            show: called with the state whenever it changes.
        """
        self._retrieval = retrieval
        self._options = options
        self._show = show
        self._failures = 0
        self._try_at = 0.0
        self._state = Breaker.CLOSED

    async def nearest(
        self,
        texts: Sequence[str],
        label_space: str,
        wanted: Wanted,
        tenant: str | None,
        priority: Priority,
    ) -> Retrieved:
        """Pass the request on to the guarded retrieval.

        Raises:
            DemonstrationsUnavailable: retrieval fails or times out, or the breaker is open.
        """
        self._begin()
        try:
            async with asyncio.timeout(self._options.timeout_s):
                retrieved = await self._retrieval.nearest(
                    texts, label_space, wanted, tenant, priority
                )
        except TimeoutError:
            timed_out = DemonstrationsUnavailable(
                f"retrieval did not answer in {self._options.timeout_s:g} s"
            )
            self._failed(timed_out)
            raise timed_out from None
        except DemonstrationsUnavailable as error:
            self._failed(error)
            raise
        except BaseException:
            if self._state is Breaker.TRYING:  # the trial was cancelled: let the next one try
                self._change(Breaker.OPEN)
            raise
        self._failures = 0
        if self._state is not Breaker.CLOSED:
            self._change(Breaker.CLOSED)
            log.warning("demonstrations are available again")
        return retrieved

    def _begin(self) -> None:
        if self._state is Breaker.CLOSED:
            return
        if self._state is Breaker.TRYING or loop_time() < self._try_at:
            raise DemonstrationsUnavailable("retrieval keeps failing and is paused")
        self._change(Breaker.TRYING)

    def _failed(self, error: DemonstrationsUnavailable) -> None:
        self._failures += 1
        if self._failures < self._options.threshold:
            return
        if self._state is Breaker.CLOSED:
            log_cause(log, "demonstrations are unavailable: answers continue without them", error)
        self._try_at = loop_time() + self._options.reset_s
        self._change(Breaker.OPEN)

    def _change(self, state: Breaker) -> None:
        self._state = state
        self._show(state)
