"""Priorities: conversations before batches."""

from enum import IntEnum


class Priority(IntEnum):
    """Which work goes first when there is too much of it; lower values go first."""

    INTERACTIVE = 0
    BATCH = 1
