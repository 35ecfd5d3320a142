"""Links in responses, with the path prefix of a proxy.

The prefix is added only to responses: stored documents may later be read through another proxy.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlencode

from pydantic import BaseModel

_prefix: ContextVar[str] = ContextVar("_prefix", default="")

# The members of documents that are links, where their value is a path.
_LINKS = frozenset({"type", "next", "results"})


@contextmanager
def under(prefix: str) -> Iterator[None]:
    """Prefix links in the block, and in the tasks that it starts, with a path.

    Args:
        prefix: such as "/emotions"; "" for none.
    """
    token = _prefix.set(prefix)
    try:
        yield
    finally:
        _prefix.reset(token)


def prefix() -> str:
    """The path prefix of links in the current response."""
    return _prefix.get()


def located(path: str) -> str:
    """A path of the service as clients see it, with the prefix."""
    return _prefix.get() + path


def next_page(path: str, query: BaseModel, **place: str) -> str:
    """The path of the page of a list that begins at a place, with the parameters of this one."""
    asked = query.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return located(f"{path}?{urlencode({**asked, **place})}")


def with_prefix(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document with the prefix added to its links."""
    return _with_links(document, located)


def without_prefix(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document with the prefix removed from its links, as it is stored."""
    return _with_links(document, lambda path: path.removeprefix(_prefix.get()))


def _with_links(document: Mapping[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    if not _prefix.get():
        return dict(document)
    return {name: _moved(name, value, move) for name, value in document.items()}


def _moved(name: str, value: Any, move: Callable[[str], str]) -> Any:
    match value:
        case str():
            return move(value) if name in _LINKS and value.startswith("/") else value
        case dict():
            return _with_links(value, move)
        case list():
            return [_moved("", item, move) for item in value]
    return value


def leading_to(*operations: str, **parameters: str) -> dict[str, Any]:
    """The part of a route's `responses=` that links to calls which use its response.

    Args:
        operations: the operation ids of these calls.
        parameters: their parameters, each with the member of the response that supplies it.
    """
    members = {name: f"$response.body#/{member}" for name, member in parameters.items()}
    return {"links": {name: {"operationId": name, "parameters": members} for name in operations}}
