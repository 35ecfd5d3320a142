"""When a failed call is made again."""

import random
from dataclasses import dataclass

from instructerc.errors import ClientError, Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often and after how long a call is repeated.

    Attributes:
        attempts: the most in a row that bring nothing.
        first_wait_s: the wait after the first of them; each later one is twice as long.
        longest_wait_s: the longest wait. A call that the service wants repeated only later fails.
    """

    attempts: int = 4
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0

    def wait_s(self, attempt: int, error: ClientError) -> float | None:
        """Seconds to wait after a failure; None: the call has failed for good.

        Args:
            attempt: the number of failures in a row, from 1.
        """
        if attempt >= self.attempts or not error.is_transient:
            return None
        longest = min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(attempt - 1, 60))
        wait = random.uniform(longest / 2, longest)
        least = error.retry_after_s if isinstance(error, Refused) else None
        if least is None:
            return wait
        return None if least > self.longest_wait_s else max(wait, least)


FOLLOWING = Retries(attempts=12)
"""For streams, which outlast the restart of a service."""
