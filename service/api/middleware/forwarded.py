"""Middleware that restores the client's request from a trusted proxy's headers.

Uvicorn's own takes the scheme and the client's address, but no prefix and no host; it takes text
that is no address for one, and where any proxy is believed, the client's word for its address.
RFC 7239's `Forwarded` is not read.
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
    """What stands between clients and the service.

    Attributes:
        root_path: what clients' paths begin with, "/emotions"; "" where nothing is put before.
        proxies: whose forwarded headers are believed.
    """

    root_path: str = ""
    proxies: Proxies = Proxies()


DIRECT = Front()
"""Nothing stands there."""


class ForwardedRequests:
    """Believes the proxies that are known; the layers within see the service's own paths.

    A proxy may leave the prefix in the path or take it away. Each header that is not as it should
    be is passed over, but for a host, which is refused as any other is.
    """

    def __init__(self, app: ASGIApp, front: Front) -> None:
        self.app = app
        self.front = front

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = scope.get("root_path", "").rstrip("/")  # a server that is told of a prefix adds it
        path = _own_path(scope["path"], given)
        prefix = given or self.front.root_path
        client = scope.get("client")
        if self.front.proxies.trust(client[0] if client else None):
            headers = Headers(scope=scope)
            said = headers.getlist("x-forwarded-prefix")
            prefix = prefix if len(said) != 1 else as_prefix(said[0].strip()) or prefix
            self._take(headers, scope)
        for each in dict.fromkeys((prefix, self.front.root_path)):
            path = _own_path(path, each)
        scope["path"] = path
        # The router would take it away once more, behind those who look who asks for what.
        scope["root_path"] = ""
        with under(prefix):
            await self.app(scope, receive, send)

    def _take(self, headers: Headers, scope: Scope) -> None:
        schemes = [each.strip().lower() for each in headers.getlist("x-forwarded-proto")]
        if len(schemes) == 1 and schemes[0] in _SCHEMES:
            scope["scheme"] = schemes[0]
        client = self.front.proxies.client(_listed(headers, "x-forwarded-for"))
        if client is not None:
            scope["client"] = (client, 0)
        scope.setdefault("state", {})[_HOSTS] = _listed(headers, "x-forwarded-host")


def forwarded_hosts(scope: Scope) -> list[str]:
    """The hosts that clients have asked for, as proxies say that are believed."""
    hosts: list[str] = scope["state"].get(_HOSTS, [])
    return hosts


def _listed(headers: Headers, name: str) -> list[str]:
    return [each.strip() for value in headers.getlist(name) for each in value.split(",")]


def _own_path(path: str, prefix: str) -> str:
    if not prefix or not f"{path}/".startswith(f"{prefix}/"):
        return path
    return path.removeprefix(prefix) or "/"
