"""Ids of request and dialogue for the log, without names."""

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pydantic import SecretStr

from service.tracing import current_trace

_DIGITS = 16  # hexadecimal digits of a dialogue's hash

# An ASGI scope: the router adds the path's parameters to it after the context was made.
_scope: ContextVar[Mapping[str, Any] | None] = ContextVar("_scope", default=None)


@contextmanager
def about(scope: Mapping[str, Any]) -> Iterator[None]:
    """Relate log records of the block, and of the tasks that it starts, to a request.

    Args:
        scope: the request's ASGI scope.
    """
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def request_id() -> str | None:
    """The id of the current request; None if there is none, as in a job."""
    scope = _scope.get()
    return None if scope is None else str(scope["state"]["request_id"])


def is_first(event: str) -> bool:
    """Whether the current request reports this event for the first time."""
    scope = _scope.get()
    if scope is None:
        return True
    seen: set[str] = scope["state"].setdefault("come_to", set())
    is_new = event not in seen
    seen.add(event)
    return is_new


class Correlation:
    """The ids that correlate log lines and spans."""

    def __init__(self, key: SecretStr | None) -> None:
        """Hash dialogue ids with a key: there may be few enough of them to try all.

        Args:
            key: the same for all processes whose logs must agree; None: a random one.
        """
        secret = secrets.token_bytes() if key is None else key.get_secret_value().encode()
        self._key = hashlib.sha256(secret).digest()

    def request_ids(self) -> dict[str, str]:
        """The ids of the current request: `request_id`, and `dialogue` if it has one."""
        scope = _scope.get()
        if scope is None:
            return {}
        state = scope["state"]
        ids = {"request_id": state["request_id"]}
        dialogue_id = scope.get("path_params", {}).get("dialogue_id")
        if dialogue_id is not None and "caller" in state:
            ids["dialogue"] = self._hash(state["caller"].tenant, dialogue_id)
        return ids

    def ids(self) -> dict[str, str]:
        """As `request_ids`, with `trace_id` and `span_id` if the request is traced."""
        ids, trace = self.request_ids(), current_trace()
        if trace is not None:
            ids |= {"trace_id": trace.trace_id, "span_id": trace.span_id}
        return ids

    def _hash(self, tenant: str, dialogue_id: str) -> str:
        content = f"{len(tenant)}:{tenant}{dialogue_id}".encode()
        return hashlib.blake2b(content, key=self._key, digest_size=_DIGITS // 2).hexdigest()
