"""Drift: how far recent predictions are from those that a bundle expects."""

from collections import Counter, deque
from collections.abc import Mapping

WINDOW = 1000
# With seven labels and so many predictions, chance alone makes a distance of about 0.06.
LEAST = 200


class LabelDrift:
    """Compares the last `WINDOW` predictions of one label space with what was expected of them."""

    def __init__(self, expected: Mapping[str, float]) -> None:
        """Begin without predictions.

        Args:
            expected: each label's share of the predictions; they sum to 1.
        """
        self._expected = expected
        self._last: deque[str] = deque(maxlen=WINDOW)
        self._counts: Counter[str] = Counter()

    def count(self, label: str) -> int:
        """Take note of one predicted label; how many count by now."""
        if len(self._last) == WINDOW:
            self._counts[self._last[0]] -= 1
        self._last.append(label)
        self._counts[label] += 1
        return len(self._last)

    def distance(self) -> float:
        """The total variation distance, from 0, as expected, to 1, nothing in common.

        Raises:
            ZeroDivisionError: nothing was counted.
        """
        made = len(self._last)
        return 0.5 * sum(
            abs(self._counts[label] / made - share) for label, share in self._expected.items()
        )
