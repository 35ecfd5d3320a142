"""Capacity limits, and the share of them that one tenant may use."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.admission.rejections import CountRejection, Rejection
from service.errors import Overloaded


@dataclass(frozen=True, slots=True)
class Share:
    """Room for so many, of which one tenant's are at most a share, and one in any case.

    Attributes:
        share: of the whole, above 0; 1: a tenant may take all of it.
        what: what there is too much of, in words: `streams are open`.
        full: how a refusal is counted that is not for the tenant's share.
    """

    most: int
    share: float
    what: str
    full: Rejection
    count: CountRejection

    def check(self, taken: int, by_tenant: int) -> None:
        """Refuse one more.

        Args:
            taken: how many there are.
            by_tenant: how many of these are of the tenant who asks for one more.

        Raises:
            Overloaded: there is no room, or the tenant has its share of it; it says which.
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
    """Count so many more of a tenant's for the time of the block."""
    counts[tenant] += many
    try:
        yield
    finally:
        counts[tenant] -= many
        if not counts[tenant]:
            del counts[tenant]
