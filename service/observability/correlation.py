"""Ids of request and dialogue in the log, without names."""

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pydantic import SecretStr

from service.tracing.context import current_trace

_DIGITS = 16  # hexadecimal ones of a dialogue's hash

# An ASGI scope: the router leaves the path's parameters there after the context was made.
_scope: ContextVar[Mapping[str, Any] | None] = ContextVar("_scope", default=None)


@contextmanager
def about(scope: Mapping[str, Any]) -> Iterator[None]:
    """Have what is logged in the block, and in the tasks that it starts, be about a request.

    Args:
        scope: the request's, of ASGI.
    """
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def request_id() -> str | None:
    """Of the request that is being answered; None: there is none, as in a job."""
    scope = _scope.get()
    return None if scope is None else str(scope["state"]["request_id"])


def is_first(what: str) -> bool:
    """Whether the request that is being answered comes to this for the first time."""
    scope = _scope.get()
    if scope is None:
        return True
    before: set[str] = scope["state"].setdefault("come_to", set())
    is_new = what not in before
    before.add(what)
    return is_new


class Correlation:
    """The ids by which lines of logs, and spans, are put together."""

    def __init__(self, key: SecretStr | None) -> None:
        """Hash dialogues with a key: their names may be few enough to try them all.

        Args:
            key: the same for processes whose logs are to agree; None: a random one.
        """
        given = secrets.token_bytes() if key is None else key.get_secret_value().encode()
        self._key = hashlib.sha256(given).digest()

    def request_ids(self) -> dict[str, str]:
        """Of the request that is being answered: `request_id`, and `dialogue` where it has one."""
        scope = _scope.get()
        if scope is None:
            return {}
        state = scope["state"]
        found = {"request_id": state["request_id"]}
        dialogue_id = scope.get("path_params", {}).get("dialogue_id")
        if dialogue_id is not None and "caller" in state:
            found["dialogue"] = self._hash(state["caller"].tenant, dialogue_id)
        return found

    def ids(self) -> dict[str, str]:
        """The same with `trace_id` and `span_id`, where it is traced."""
        found, trace = self.request_ids(), current_trace()
        if trace is not None:
            found |= {"trace_id": trace.trace_id, "span_id": trace.span_id}
        return found

    def _hash(self, tenant: str, dialogue_id: str) -> str:
        named = f"{len(tenant)}:{tenant}{dialogue_id}".encode()
        return hashlib.blake2b(named, key=self._key, digest_size=_DIGITS // 2).hexdigest()
