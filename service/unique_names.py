"""JSON objects with unique names: Python silently keeps the last of duplicates."""

from collections.abc import Sequence
from typing import Any


class NameTwice(ValueError):
    """A JSON object has a duplicate name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is given twice in one object; keep one of them")
        self.name = name


def unique_names(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object from its pairs, for `json.loads(..., object_pairs_hook=unique_names)`.

    Raises:
        NameTwice: a name occurs twice.
    """
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        raise NameTwice(next(name for name in names if names.count(name) > 1))
    return mapping
