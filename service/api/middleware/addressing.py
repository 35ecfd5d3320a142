"""Middleware that says for whom a request is: the client's own request, restored from a trusted
proxy's headers, and refused where it names another host or comes from a page of another site.

Uvicorn's own middleware reads the scheme and the client's address, but neither prefix nor host; it
accepts text that is not an address and, where any proxy is trusted, an address that the client
claims. RFC 7239's `Forwarded` is not read.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.addresses import Hosts, Proxies, host_of
from service.admission.rejections import CountRejection, Rejection
from service.api.links import under
from service.api.problems.answers import problem_response
from service.api.problems.kinds import BAD_REQUEST, CROSS_SITE_REQUEST, MISDIRECTED_REQUEST, Kind
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


# Probes reveal nothing, and Kubernetes requests them by an address that is not known in advance.
_PROBES = frozenset({"/livez", "/readyz"})

_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")

_RawHeaders = list[tuple[bytes, bytes]]


def host_of_target(target: bytes, headers: _RawHeaders) -> None:
    """Replace `Host` by the host of an absolute target (RFC 9112, section 3.2.2)."""
    absolute = _ABSOLUTE.match(target)
    if absolute is not None:
        others = [(name, value) for name, value in headers if name != b"host"]
        headers[:] = [(b"host", absolute[1]), *others]


class AddressedRequests:
    """Refuses requests for other hosts and, without keys, those from pages of other hosts.

    A page can send `X-Forwarded-Host` too, so it is read only from a trusted proxy; every host that
    it names must be one of the service's, as must `Host`.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Hosts,
        count: CountRejection,
        *,
        anonymous: bool,
        origins: Collection[str] = (),
    ) -> None:
        """Wrap an application.

        Args:
            origins: whose pages may send requests too.
            anonymous: whether the service has no keys, so that a page needs none.
        """
        self.app = app
        self.hosts = hosts
        self.count = count
        self.anonymous = anonymous
        self.origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _PROBES:
            await self.app(scope, receive, send)
            return
        refusal = next(self._refusals(scope), None)
        if refusal is None:
            await self.app(scope, receive, send)
            return
        self.count(Rejection.HOST)
        response = problem_response(scope["state"]["request_id"], *refusal)
        await response(scope, receive, send)

    def _refusals(self, scope: Scope) -> Iterator[tuple[Kind, str]]:
        headers = Headers(scope=scope)
        values = headers.getlist("host")
        host = host_of(values[0]) if len(values) == 1 else None
        if host is None:
            if values or not self.hosts.anything:
                yield (
                    BAD_REQUEST,
                    "send exactly one Host header, with a name or an address and its port",
                )
            return
        hosts = [host]
        for value in forwarded_hosts(scope):
            forwarded = host_of(value)
            if forwarded is None:
                yield BAD_REQUEST, "X-Forwarded-Host must list names or addresses, with ports"
                return
            hosts.append(forwarded)
        for name in hosts:
            if not self.hosts.allow(name):
                detail = f"{name!r} is not one of this service's hosts; add it to ERC_ALLOWED_HOSTS"
                yield MISDIRECTED_REQUEST, detail
        if self.anonymous and self._is_foreign(scope["method"], headers, hosts):
            detail = (
                "only pages of this service's hosts may send requests; add the page's host to "
                "ERC_ALLOWED_HOSTS, or its origin to ERC_CORS_ORIGINS"
            )
            yield CROSS_SITE_REQUEST, detail

    def _is_foreign(self, method: str, headers: Headers, hosts: list[str]) -> bool:
        """Whether the browser's headers say that a page of another host sends the request."""
        for origin in headers.getlist("origin"):
            page_host = host_of(_authority(origin))
            if origin in self.origins:
                continue
            if page_host is None or not (page_host in hosts or self.hosts.trust(page_host)):
                return True
        if "origin" in headers or headers.get("sec-fetch-site") != "cross-site":
            return False
        # Following a link from another site is allowed.
        return not (method == "GET" and headers.get("sec-fetch-dest") == "document")


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
