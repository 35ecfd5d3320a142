"""Middleware that refuses requests for other hosts, and those from pages of other sites."""

import re
from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.hosts import Hosts, host_of
from service.admission.rejections import CountRejection, Rejection
from service.api.middleware.forwarded import forwarded_hosts
from service.api.problems.answers import problem_response
from service.api.problems.kinds import BAD_REQUEST, CROSS_SITE_REQUEST, MISDIRECTED_REQUEST, Kind

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
