"""Callers: a key's tenant, whose dialogues alone it may read, its scopes, the rest of its quota."""

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
    """A token bucket: holds at most `most` tokens, and refills at `per_s` tokens per second."""

    def __init__(self, most: int, per_s: float, clock: Clock = monotonic) -> None:
        self.most = most
        self._per_s = per_s
        self._clock = clock
        self._held = float(most)
        self._at = clock()

    @property
    def held(self) -> float:
        """The number of tokens now."""
        now = self._clock()
        self._held = min(self.most, self._held + (now - self._at) * self._per_s)
        self._at = now
        return self._held

    def take(self, count: int) -> float:
        """Take `count` tokens, or none.

        Returns 0 if they were taken, else the seconds until there will be as many.
        """
        held = self.held
        if held < count:
            return self.seconds_to(count)
        self._held -= count
        return 0.0

    def seconds_to(self, count: int) -> float:
        """The seconds until there are `count` tokens."""
        return max(0.0, (count - self.held) / self._per_s)


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a key, or anybody if there are no keys.

    Attributes:
        tenant: owner of the dialogues and demonstrations that the caller can access.
        requests, utterances: the rest of the quota; None: no quota.
        batch_utterances: the most in one batch; None: only the service's limit holds.
        digest: of the caller's key, for looking it up again.
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
            ScopeMissing: the caller lacks it; the error names the scope.
        """
        if scope not in self.scopes and Scope.ADMIN not in self.scopes:
            raise ScopeMissing(f"the key lacks the scope {scope.value!r}", scope.value)

    def spend_request(self) -> None:
        """Count a request against the quota.

        Raises:
            QuotaExceeded: none is left; the error says when one will be.
        """
        _spend(self.requests, 1, "requests")

    def spend_utterances(self, count: int) -> None:
        """Count utterances that the model is to read against the quota.

        Raises:
            QuotaExceeded: too few are left; the error says when there will be enough.
        """
        _spend(self.utterances, count, "utterances")


# Without keys, everybody is one tenant that may do everything.
ANYBODY = Caller(DEFAULT_TENANT, frozenset(Scope))


def caller_of(key: Key, clock: Clock = monotonic) -> Caller:
    """The holder of a key, with the full quota."""
    quota = key.quota
    requests = utterances = None
    if quota.requests_per_s is not None:
        burst = quota.burst or ceil(quota.requests_per_s)
        requests = Bucket(burst, quota.requests_per_s, clock)
    if quota.utterances_per_min is not None:
        per_s = quota.utterances_per_min / _MINUTE_S
        utterances = Bucket(quota.utterances_per_min, per_s, clock)
    # A larger batch than a minute's utterances would never get its quota.
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
