"""Links in responses, with the path prefix of a proxy.

Where a proxy puts a path before the service's own, only what leaves has it: what is stored may be
read by another way later.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_prefix: ContextVar[str] = ContextVar("_prefix", default="")

# The members of documents that hold links, where they hold a path.
_LINKS = frozenset({"type", "next", "results"})


@contextmanager
def under(prefix: str) -> Iterator[None]:
    """Have links in the block, and in the tasks that it starts, begin with a path.

    Args:
        prefix: "/emotions"; "" for none.
    """
    token = _prefix.set(prefix)
    try:
        yield
    finally:
        _prefix.reset(token)


def prefix() -> str:
    """What the links of the request that is being answered begin with."""
    return _prefix.get()


def located(path: str) -> str:
    """A path of the service as clients ask for it."""
    return _prefix.get() + path


def with_prefix(found: Mapping[str, Any]) -> dict[str, Any]:
    """A document with its links as clients ask for them."""
    return _with_links(found, located)


def without_prefix(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same the other way round, as it is stored."""
    return _with_links(found, lambda path: path.removeprefix(_prefix.get()))


def _with_links(found: Mapping[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    if not _prefix.get():
        return dict(found)
    return {name: _moved(name, value, move) for name, value in found.items()}


def _moved(name: str, value: Any, move: Callable[[str], str]) -> Any:
    match value:
        case str():
            return move(value) if name in _LINKS and value.startswith("/") else value
        case dict():
            return _with_links(value, move)
        case list():
            return [_moved("", each, move) for each in value]
    return value


def leading_to(*operations: str, **parameters: str) -> dict[str, Any]:
    """The part of a route's `responses=` that names the calls that take from its answer.

    Args:
        operations: their operation ids.
        parameters: each with the member of the answer that it is.
    """
    taken = {name: f"$response.body#/{member}" for name, member in parameters.items()}
    return {"links": {each: {"operationId": each, "parameters": taken} for each in operations}}
