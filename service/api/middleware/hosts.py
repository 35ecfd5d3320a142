"""Middleware that refuses requests for other hosts, and those from pages of other sites."""

import re
from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.hosts import Hosts, host_of
from service.admission.rejections import CountRejection, Rejection
from service.api.middleware.forwarded import forwarded_hosts
from service.api.problems.answers import problem_answer
from service.api.problems.kinds import BAD_REQUEST, CROSS_SITE_REQUEST, MISDIRECTED_REQUEST, Kind

# They tell nothing of anybody, and Kubernetes asks for them by an address that nobody knows before.
_PROBES = frozenset({"/livez", "/readyz"})

_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")

_RawHeaders = list[tuple[bytes, bytes]]


def host_of_target(target: bytes, headers: _RawHeaders) -> None:
    """Have `Host` be what an absolute target names, as RFC 9112 says, whatever was sent."""
    found = _ABSOLUTE.match(target)
    if found is not None:
        others = [(name, value) for name, value in headers if name != b"host"]
        headers[:] = [(b"host", found[1]), *others]


class AddressedRequests:
    """Refuses a request for another host, and where anybody may ask, one of another host's page.

    A page can send `X-Forwarded-Host` too. So only a known proxy's is looked at, and where it names
    other hosts than `Host` does, each of them must be one of the service's.
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
        """Set it up.

        Args:
            origins: whose pages may ask too.
            anonymous: there are no keys, so that a page needs none.
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
        answer = problem_answer(scope["state"]["request_id"], *refusal)
        await answer(scope, receive, send)

    def _refusals(self, scope: Scope) -> Iterator[tuple[Kind, str]]:
        headers = Headers(scope=scope)
        given = headers.getlist("host")
        host = host_of(given[0]) if len(given) == 1 else None
        if host is None:
            if given or not self.hosts.anything:
                yield BAD_REQUEST, "send one header Host, a name or an address, and its port"
            return
        asked = [host]
        for value in forwarded_hosts(scope):
            found = host_of(value)
            if found is None:
                yield BAD_REQUEST, "X-Forwarded-Host is to hold names or addresses, with ports"
                return
            asked.append(found)
        for each in asked:
            if not self.hosts.allow(each):
                detail = f"{each!r} is not one of this service's hosts; add it to ERC_ALLOWED_HOSTS"
                yield MISDIRECTED_REQUEST, detail
        if self.anonymous and self._is_foreign(scope["method"], headers, asked):
            detail = (
                "only pages of this service's hosts may ask; add the page's host to "
                "ERC_ALLOWED_HOSTS, or its origin to ERC_CORS_ORIGINS"
            )
            yield CROSS_SITE_REQUEST, detail

    def _is_foreign(self, method: str, headers: Headers, hosts: list[str]) -> bool:
        """Whether a browser says that a page of another host than these asks."""
        for origin in headers.getlist("origin"):
            asking = host_of(_authority(origin))
            if origin in self.origins:
                continue
            if asking is None or not (asking in hosts or self.hosts.trust(asking)):
                return True
        if "origin" in headers or headers.get("sec-fetch-site") != "cross-site":
            return False
        # Whoever follows a link is shown where it leads.
        return not (method == "GET" and headers.get("sec-fetch-dest") == "document")


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
