"""How calls become requests of httpx, and how long they may take."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import httpx

from instructerc.calls import Call

T = TypeVar("T")

UNIFIED = "unified"
"""The label space of answers where none is asked for."""
PORTION = 256
"""The utterances that are sent together in a batch of any length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long the client waits, in seconds.

    Attributes:
        connect_s: for a connection.
        answer_s: for an answer; the service gives up after 20 s unless configured otherwise.
        batch_s: for the next part of a batch's answer, and for an explanation.
        silence_s: for the next event of a dialogue; the service sends a sign every 15 s.
    """

    connect_s: float = 5.0
    answer_s: float = 30.0
    batch_s: float = 330.0
    silence_s: float = 45.0


def headers_of(key: str | None) -> dict[str, str]:
    """The headers of every request."""
    try:
        agent = f"instructerc/{version('instructerc')}"
    except PackageNotFoundError:  # it runs from a folder
        agent = "instructerc"
    return {"User-Agent": agent} | ({} if key is None else {"Authorization": f"Bearer {key}"})


def request_of(call: Call[T], timeouts: Timeouts) -> dict[str, Any]:
    """The arguments of httpx's `build_request`."""
    if call.headers.get("Accept") == "text/event-stream":
        seconds = timeouts.silence_s
    else:
        seconds = timeouts.batch_s if call.is_slow else timeouts.answer_s
    return {
        "method": call.method,
        "url": call.path,
        "params": dict(call.query) or None,
        "headers": dict(call.headers),
        "content": call.content,
        "timeout": httpx.Timeout(seconds, connect=timeouts.connect_s),
    }
