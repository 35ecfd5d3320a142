"""What goes first where many wait: a conversation that is going on, or a batch."""

from enum import IntEnum


class Priority(IntEnum):
    """Which work goes first when there is too much of it; lower values go first."""

    INTERACTIVE = 0
    BATCH = 1
