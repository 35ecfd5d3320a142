"""Drift: the distance of recent predictions from those that a bundle expects."""

from collections import Counter, deque
from collections.abc import Mapping

WINDOW = 1000
# With seven labels and this many predictions, chance alone makes a distance of about 0.06.
LEAST = 200


class LabelDrift:
    """Compares the last `WINDOW` predictions in one label space with the expected shares."""

    def __init__(self, expected: Mapping[str, float]) -> None:
        """Begin without predictions.

        Args:
            expected: each label's share of the predictions; they sum to 1.
        """
        self._expected = expected
        self._last: deque[str] = deque(maxlen=WINDOW)
        self._counts: Counter[str] = Counter()

    def count(self, label: str) -> int:
        """Add one predicted label; return the number of predictions in the window."""
        if len(self._last) == WINDOW:
            self._counts[self._last[0]] -= 1
        self._last.append(label)
        self._counts[label] += 1
        return len(self._last)

    def distance(self) -> float:
        """The total variation distance, from 0 (as expected) to 1 (disjoint).

        Raises:
            ZeroDivisionError: there are no predictions.
        """
        count = len(self._last)
        return 0.5 * sum(
            abs(self._counts[label] / count - share) for label, share in self._expected.items()
        )
