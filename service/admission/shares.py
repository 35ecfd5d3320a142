"""Capacity limits, and the share of each that one tenant may use."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.admission.rejections import CountRejection, Rejection
from service.errors import Overloaded


@dataclass(frozen=True, slots=True)
class Share:
    """A limit, of which one tenant may use a share, but always at least one.

    Attributes:
        share: above 0 and up to 1; 1: a tenant may take all.
        what: a description for the refusal, such as `streams are open`.
        full: the reason that a refusal counts as, unless it is for the tenant's share.
    """

    most: int
    share: float
    what: str
    full: Rejection
    count: CountRejection

    def check(self, taken: int, by_tenant: int) -> None:
        """Refuse one more if the limit is reached.

        Args:
            taken: the number taken.
            by_tenant: the number of these taken by the tenant that asks for one more.

        Raises:
            Overloaded: the limit is reached, or the tenant's share of it; the message says which.
        """
        if taken >= self.most:
            self.count(self.full)
            raise Overloaded(f"too many {self.what} (limit {self.most})")
        most = max(1, int(self.most * self.share))
        if by_tenant >= most:
            self.count(Rejection.TENANT)
            raise Overloaded(f"too many {self.what} for your tenant (limit {most})")


@contextmanager
def counted(counts: Counter[str], tenant: str, many: int = 1) -> Iterator[None]:
    """Count `many` more of a tenant's for the duration of the block."""
    counts[tenant] += many
    try:
        yield
    finally:
        counts[tenant] -= many
        if not counts[tenant]:
            del counts[tenant]
