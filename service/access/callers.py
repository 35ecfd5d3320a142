"""Callers: which tenant a key acts for, its scopes, and what is left of its quota."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from time import monotonic

from service.access.keys import Key, Scope
from service.errors import QuotaExceeded, ScopeMissing

DEFAULT_TENANT = "default"

_MINUTE_S = 60.0

Clock = Callable[[], float]


class Bucket:
    """Holds so many tokens at most, and fills steadily (a token bucket)."""

    def __init__(self, most: int, per_s: float, clock: Clock = monotonic) -> None:
        self.most = most
        self._per_s = per_s
        self._clock = clock
        self._held = float(most)
        self._at = clock()

    @property
    def held(self) -> float:
        """How many tokens there are."""
        now = self._clock()
        self._held = min(self.most, self._held + (now - self._at) * self._per_s)
        self._at = now
        return self._held

    def take(self, count: int) -> float:
        """Take all of `count` or nothing.

        Returns 0 when they were taken, else the seconds until there will be as many.
        """
        held = self.held
        if held < count:
            return self.seconds_to(count)
        self._held -= count
        return 0.0

    def seconds_to(self, count: int) -> float:
        """The seconds until it holds so many."""
        return max(0.0, (count - self.held) / self._per_s)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever holds a key, or anybody where there are no keys.

    Attributes:
        tenant: whose dialogues and demonstrations they ask for.
        requests, utterances: what they have left; None: as many as they like.
        batch_utterances: in one batch at most; None: as many as anybody.
        digest: of the key that they hold, by which it is found again.
    """

    tenant: str
    scopes: frozenset[Scope]
    requests: Bucket | None = None
    utterances: Bucket | None = None
    batch_utterances: int | None = None
    digest: bytes = field(default=b"", repr=False)

    def require(self, scope: Scope) -> None:
        """Refuse a caller without a scope.

        Raises:
            ScopeMissing: it names the scope.
        """
        if scope not in self.scopes and Scope.ADMIN not in self.scopes:
            raise ScopeMissing(f"the key lacks the scope {scope.value!r}", scope.value)

    def spend_request(self) -> None:
        """Count a request against the quota.

        Raises:
            QuotaExceeded: there is none left; it says when there will be.
        """
        _spend(self.requests, 1, "requests")

    def spend_utterances(self, count: int) -> None:
        """Count utterances that the model is to read against the quota.

        Raises:
            QuotaExceeded: not as many are left; it says when there will be.
        """
        _spend(self.utterances, count, "utterances")


# Where there are no keys, everybody is one tenant that may do everything.
ANYBODY = Caller(DEFAULT_TENANT, frozenset(Scope))


def caller_of(key: Key, clock: Clock = monotonic) -> Caller:
    """The holder of a key, with all of the quota left."""
    quota = key.quota
    requests = utterances = None
    if quota.requests_per_s is not None:
        burst = quota.burst or ceil(quota.requests_per_s)
        requests = Bucket(burst, quota.requests_per_s, clock)
    if quota.utterances_per_min is not None:
        per_s = quota.utterances_per_min / _MINUTE_S
        utterances = Bucket(quota.utterances_per_min, per_s, clock)
    # A batch of more than a minute's utterances would wait for ever.
    bounds = [n for n in (quota.batch_utterances, quota.utterances_per_min) if n is not None]
    return Caller(
        key.tenant,
        key.scopes,
        requests,
        utterances,
        min(bounds, default=None),
        bytes.fromhex(key.sha256),
    )


def _spend(bucket: Bucket | None, count: int, what: str) -> None:
    if bucket is None:
        return
    wait_s = bucket.take(count)
    if wait_s:
        raise QuotaExceeded(f"the key has used up its {what}", wait_s)
