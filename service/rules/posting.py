"""Attempts to deliver a webhook: one signed POST, to an address that the endpoint may have.

The address is checked where the connection is made, so a name that resolves to another address by
then, or an address in an unusual notation, is checked like any other.
"""

import asyncio
import errno
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.abc import AbstractResolver, ResolveResult

from service.rules.addresses import fault_of_address
from service.rules.rule_files import Endpoint
from service.rules.signatures import signed_headers
from service.version import VERSION

# As Standard Webhooks recommends; it includes looking up the name, and connecting.
ATTEMPT_S = 15.0
# Names that are looked up at once; a lookup cannot be cancelled, and must not use up the threads
# that other work of the process needs.
_LOOKUPS = 8
_ACCEPTED = range(200, 300)
_MOST_CHARACTERS_OF_A_FAILURE = 200

Lookup = Callable[..., list[tuple[Any, ...]]]
"""As `socket.getaddrinfo`."""
Post = Callable[[Endpoint, str, bytes], Awaitable["Attempt"]]
"""Delivers the webhook with an id and a body to an endpoint; every failure is in the result."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of an attempt.

    Attributes:
        status: of the response; None: there was none.
        failure: why it failed; None: the endpoint accepted the webhook.
        retry_after_s: when the endpoint wants the next attempt, if it says so.
    """

    status: int | None
    failure: str | None
    retry_after_s: float | None = None


class AddressRefused(OSError):
    """The endpoint has an address that the service does not connect to."""


class Poster:
    """Posts webhooks; redirects are not followed, and the bodies of responses are not read."""

    def __init__(self, lookup: Lookup = socket.getaddrinfo, attempt_s: float = ATTEMPT_S) -> None:
        threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="webhook-names")
        self._resolver = _Resolver(threads, lookup)
        self._timeout = ClientTimeout(total=attempt_s)

    async def post(self, endpoint: Endpoint, webhook_id: str, body: bytes) -> Attempt:
        """Deliver a webhook; see `Post`."""
        headers = {
            "content-type": "application/json",
            "user-agent": f"instructerc/{VERSION}",
            **signed_headers(endpoint.secret, webhook_id, int(time.time()), body),
        }
        connector = TCPConnector(
            resolver=self._resolver,
            socket_factory=partial(_socket, allow_private=endpoint.allow_private),
            use_dns_cache=False,
            force_close=True,
        )
        try:
            async with (
                ClientSession(
                    connector=connector, timeout=self._timeout, cookie_jar=DummyCookieJar()
                ) as session,
                session.post(
                    endpoint.url, data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                if response.status in _ACCEPTED:
                    return Attempt(response.status, None)
                failure = f"status {response.status}"
                return Attempt(response.status, failure, _retry_after_s(response.headers))
        except (ClientError, OSError, ValueError) as error:
            return Attempt(None, _in_words(error)[:_MOST_CHARACTERS_OF_A_FAILURE])


def _in_words(error: Exception) -> str:
    if isinstance(error, ClientConnectorError):
        error = error.os_error  # which says why; of several addresses, why of each
    if isinstance(error, TimeoutError):
        return "no answer in time"
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or str(error) or type(error).__name__


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _socket(address_info: tuple[Any, ...], *, allow_private: bool) -> socket.socket:
    family, kind, protocol, _, address = address_info
    fault = fault_of_address(address[0], allow_private=allow_private)
    if fault is not None:
        raise AddressRefused(errno.EACCES, fault)
    return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    """Looks names up in threads of its own."""

    def __init__(self, threads: ThreadPoolExecutor, lookup: Lookup) -> None:
        self._threads = threads
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        lookup = partial(self._lookup, host, port, family=family, type=socket.SOCK_STREAM)
        infos = await asyncio.get_running_loop().run_in_executor(self._threads, lookup)
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=address[1],
                family=each_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for each_family, _, protocol, _, address in infos
        ]

    async def close(self) -> None:
        """Nothing to close: the threads are the poster's."""
