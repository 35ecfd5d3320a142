"""Middleware that restores the client's request from a trusted proxy's headers.

Uvicorn's own middleware reads the scheme and the client's address, but neither prefix nor host; it
accepts text that is not an address and, where any proxy is trusted, an address that the client
claims. RFC 7239's `Forwarded` is not read.
"""

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.proxies import Proxies
from service.api.links import under
from service.settings import as_prefix

_SCHEMES = ("http", "https")
_HOSTS = "forwarded_hosts"


@dataclass(frozen=True, slots=True)
class Front:
    """What is between clients and the service.

    Attributes:
        root_path: the prefix of clients' paths, such as "/emotions"; "" for none.
        proxies: whose forwarded headers are trusted.
    """

    root_path: str = ""
    proxies: Proxies = Proxies()


DIRECT = Front()
"""No proxy."""


class ForwardedRequests:
    """Applies the headers of trusted proxies; inner layers see the service's own paths.

    A proxy may leave the prefix in the path or strip it. Invalid headers are ignored, except a
    host, which is refused like any other.
    """

    def __init__(self, app: ASGIApp, front: Front) -> None:
        self.app = app
        self.front = front

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        root_path = scope.get("root_path", "").rstrip("/")  # a server with a prefix adds it
        path = _own_path(scope["path"], root_path)
        prefix = root_path or self.front.root_path
        client = scope.get("client")
        if self.front.proxies.trust(client[0] if client else None):
            headers = Headers(scope=scope)
            forwarded = headers.getlist("x-forwarded-prefix")
            prefix = prefix if len(forwarded) != 1 else as_prefix(forwarded[0].strip()) or prefix
            self._apply(headers, scope)
        for candidate in dict.fromkeys((prefix, self.front.root_path)):
            path = _own_path(path, candidate)
        scope["path"] = path
        # Else the router would strip it again, after the layers that check permissions by path.
        scope["root_path"] = ""
        with under(prefix):
            await self.app(scope, receive, send)

    def _apply(self, headers: Headers, scope: Scope) -> None:
        schemes = [value.strip().lower() for value in headers.getlist("x-forwarded-proto")]
        if len(schemes) == 1 and schemes[0] in _SCHEMES:
            scope["scheme"] = schemes[0]
        client = self.front.proxies.client(_listed(headers, "x-forwarded-for"))
        if client is not None:
            scope["client"] = (client, 0)
        scope.setdefault("state", {})[_HOSTS] = _listed(headers, "x-forwarded-host")


def forwarded_hosts(scope: Scope) -> list[str]:
    """The hosts that clients requested, according to trusted proxies."""
    hosts: list[str] = scope["state"].get(_HOSTS, [])
    return hosts


def _listed(headers: Headers, name: str) -> list[str]:
    return [element.strip() for value in headers.getlist(name) for element in value.split(",")]


def _own_path(path: str, prefix: str) -> str:
    if not prefix or not f"{path}/".startswith(f"{prefix}/"):
        return path
    return path.removeprefix(prefix) or "/"
