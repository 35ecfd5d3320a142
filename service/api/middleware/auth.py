"""Middleware that authenticates the caller before the body of the request is read."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from fastapi.security import HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.addresses import LOOPBACK, Hosts
from service.access.callers import ANYBODY, Bucket, Caller
from service.access.keyring import Keyring
from service.access.keys import Scope as KeyScope
from service.admission.rejections import CountRejection, Rejection
from service.api.policies import Policy, policy_of
from service.api.problems.answers import response_of
from service.api.request_headers import is_ndjson
from service.api.response_headers import QUOTA
from service.errors import QuotaExceeded, ScopeMissing, ServiceError, Unauthenticated

log = logging.getLogger(__name__)

# For the documentation only: which calls take a key. It checks nothing.
BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="A key that `instructerc keys new` made. A service without keys allows all calls "
    "to anybody.",
)

_TOKEN = re.compile(r"bearer +(\S+)", re.IGNORECASE)

_REASONS: Mapping[type[ServiceError], Rejection] = {
    Unauthenticated: Rejection.KEY,
    ScopeMissing: Rejection.SCOPE,
    QuotaExceeded: Rejection.QUOTA,
}


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call the service.

    Attributes:
        keyring: the keys; None: anybody may call anything.
        open_operations: whether `/metrics` and the documentation need no key.
        hosts: the hosts that requests may name; by default this machine's.
        origins: whose pages may send requests and read responses, besides those of its own hosts.
    """

    keyring: Keyring | None = None
    open_operations: bool = False
    hosts: Hosts = LOOPBACK
    origins: frozenset[str] = frozenset()


class KnownCallers:
    """Finds the caller by the key, `request.state.caller`, and refuses requests without permission.

    The body of a refused request is not read. The response to a caller with a quota of requests
    says how much of it remains.

    Revoking a key ends its long responses: the key is checked again for each line and event that is
    sent, and for each part of an NDJSON body that arrives. Nothing is sent after that.
    """

    def __init__(self, app: ASGIApp, access: Access, count: CountRejection) -> None:
        self.app = app
        self.access = access
        self.count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        required = self._scope_for(policy_of(scope))
        keyring = self.access.keyring
        if required is None or keyring is None:
            scope["state"]["caller"] = ANYBODY
            await self.app(scope, receive, send)
            return
        requests = None
        try:
            caller = keyring.caller(_key(Headers(scope=scope)))
            requests = caller.requests
            caller.spend_request()
            caller.require(required)
        except ServiceError as error:
            self.count(_REASONS[type(error)])
            response = response_of(scope["state"]["request_id"], error)
            if requests is not None:
                _set_quota(response.headers, requests)
            await response(scope, receive, send)
            return
        scope["state"]["caller"] = caller
        exchange = _Exchange(scope, receive, send, keyring, self.count)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except Exception as error:
            if exchange.broken_off is None or not _comes_of(error, exchange.broken_off):
                raise
            # The response is incomplete, so the server closes the connection.
            request_id = scope["state"]["request_id"]
            log.warning(
                "the response to request %s is cut off: %s", request_id, exchange.broken_off
            )

    def _scope_for(self, policy: Policy) -> KeyScope | None:
        """The scope that a key must have; None: no key is needed."""
        is_open = policy.is_operation and self.access.open_operations
        return None if is_open else policy.scope


class _Exchange:
    """A request and its response, for as long as the caller's key is valid.

    Attributes:
        broken_off: why a response that has begun is cut off.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, keyring: Keyring, count: CountRejection
    ) -> None:
        self.broken_off: ServiceError | None = None
        self._state = scope["state"]
        self._caller: Caller = self._state["caller"]
        self._receive = receive
        self._send = send
        self._keyring = keyring
        self._count = count
        self._in_lines = is_ndjson(scope)
        self._begun = False

    async def receive(self) -> Message:
        message = await self._receive()
        # Lines may arrive for minutes; any other body arrives within seconds.
        if self._in_lines and message["type"] == "http.request":
            self._recheck()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            # A route's refusal is a response by now.
            reason = _REASONS.get(type(self._state.get("refusal")))
            if reason is not None:
                self._count(reason)
            if self._caller.requests is not None:
                _set_quota(MutableHeaders(scope=message), self._caller.requests)
        elif message.get("more_body", False):  # an event, a line, a heartbeat
            self._recheck()
        await self._send(message)

    def _recheck(self) -> None:
        if self.broken_off is not None:
            raise self.broken_off
        try:
            self._keyring.check(self._caller)
        except ServiceError as error:
            if self._begun:
                self.broken_off = error
                self._count(_REASONS[type(error)])
            raise


def _comes_of(error: BaseException, cause: ServiceError) -> bool:
    """Whether an error is only the cause itself, wrapped by frameworks."""
    if isinstance(error, BaseExceptionGroup):
        return all(_comes_of(nested, cause) for nested in error.exceptions)
    return error is cause or (error.__cause__ is not None and _comes_of(error.__cause__, cause))


def _key(headers: Headers) -> str:
    values = headers.getlist("authorization")
    token = _TOKEN.fullmatch(values[0].strip()) if len(values) == 1 else None
    if token is None:
        raise Unauthenticated("send a key: Authorization: Bearer KEY")
    return token[1]


def _set_quota(headers: MutableHeaders, requests: Bucket) -> None:
    quota = (requests.most, int(requests.held), ceil(requests.seconds_to(requests.most)))
    for name, value in zip(QUOTA, quota, strict=True):
        headers[name] = str(value)
