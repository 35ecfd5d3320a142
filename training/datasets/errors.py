"""The error that corpus loaders raise."""

from pathlib import Path


class DatasetError(ValueError):
    """A corpus is not what its loader expects; the message names file and line.

    Attributes:
        path: the file that it is about, where it is about one.
        line: from 1; 0: none in particular.
    """

    def __init__(self, message: str, path: Path | None = None, line: int = 0) -> None:
        super().__init__(message)
        self.path = path
        self.line = line
