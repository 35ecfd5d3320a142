"""Middleware that authenticates the caller before anything of the request is read."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from fastapi.security import HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.callers import ANYBODY, Bucket, Caller
from service.access.hosts import LOOPBACK, Hosts
from service.access.keyring import Keyring
from service.access.keys import Scope as KeyScope
from service.admission.rejections import CountRejection, Rejection
from service.api.headers.content_type import is_ndjson
from service.api.policies import Policy, policy_of
from service.api.problems.answers import answer_of
from service.api.response_headers import QUOTA
from service.errors import QuotaExceeded, ScopeMissing, ServiceError, Unauthenticated

log = logging.getLogger(__name__)

# Of the documentation: which calls take a key. Nothing is checked there.
BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="A key, as `instructerc keys new` makes it. Where the service has no keys, anybody "
    "may ask for anything.",
)

_TOKEN = re.compile(r"bearer +(\S+)", re.IGNORECASE)

_REASONS: Mapping[type[ServiceError], Rejection] = {
    Unauthenticated: Rejection.KEY,
    ScopeMissing: Rejection.SCOPE,
    QuotaExceeded: Rejection.QUOTA,
}


@dataclass(frozen=True, slots=True)
class Access:
    """Who gets in.

    Attributes:
        keyring: the keys there are; None: anybody may ask for anything.
        open_operations: `/metrics` and the documentation need no key.
        hosts: which ones the service may be asked for as; by default this machine's.
        origins: whose pages may ask and read what is answered, beside those of its own.
    """

    keyring: Keyring | None = None
    open_operations: bool = False
    hosts: Hosts = LOOPBACK
    origins: frozenset[str] = frozenset()


class KnownCallers:
    """Finds the caller by the key, `request.state.caller`, and refuses those who may not ask.

    A refused request's body is not read. The answer to a caller with a quota of requests says how
    much of it is left.

    A key that is taken away ends what goes on for long: it is looked at again for each line and
    event that is sent, and for what arrives of a body of lines. Nothing is sent then.
    """

    def __init__(self, app: ASGIApp, access: Access, count: CountRejection) -> None:
        self.app = app
        self.access = access
        self.count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        wanted = self._scope_for(policy_of(scope))
        keyring = self.access.keyring
        if wanted is None or keyring is None:
            scope["state"]["caller"] = ANYBODY
            await self.app(scope, receive, send)
            return
        requests = None
        try:
            caller = keyring.caller(_key(Headers(scope=scope)))
            requests = caller.requests
            caller.spend_request()
            caller.require(wanted)
        except ServiceError as error:
            self.count(_REASONS[type(error)])
            answer = answer_of(scope["state"]["request_id"], error)
            if requests is not None:
                _tell(answer.headers, requests)
            await answer(scope, receive, send)
            return
        scope["state"]["caller"] = caller
        exchange = _Exchange(scope, receive, send, keyring, self.count)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except Exception as error:
            if exchange.broken_off is None or not _comes_of(error, exchange.broken_off):
                raise
            # The server breaks the connection off: the answer has no end.
            request_id = scope["state"]["request_id"]
            log.warning("the answer to request %s ends: %s", request_id, exchange.broken_off)

    def _scope_for(self, policy: Policy) -> KeyScope | None:
        """What a key must be for; None: no key is needed."""
        is_open = policy.is_operation and self.access.open_operations
        return None if is_open else policy.scope


class _Exchange:
    """A request and its answer, for as long as the caller's key is good.

    Attributes:
        broken_off: why the answer, which had begun, does not go on.
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
        # Lines may come for minutes; another body is there in seconds.
        if self._in_lines and message["type"] == "http.request":
            self._look_again()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            # What a route refuses is an answer here already.
            reason = _REASONS.get(type(self._state.get("refusal")))
            if reason is not None:
                self._count(reason)
            if self._caller.requests is not None:
                _tell(MutableHeaders(scope=message), self._caller.requests)
        elif message.get("more_body", False):  # an event, a line, a sign of life
            self._look_again()
        await self._send(message)

    def _look_again(self) -> None:
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
    """Whether it is nothing but the cause, as frameworks pass it on."""
    if isinstance(error, BaseExceptionGroup):
        return all(_comes_of(each, cause) for each in error.exceptions)
    return error is cause or (error.__cause__ is not None and _comes_of(error.__cause__, cause))


def _key(headers: Headers) -> str:
    given = headers.getlist("authorization")
    found = _TOKEN.fullmatch(given[0].strip()) if len(given) == 1 else None
    if found is None:
        raise Unauthenticated("send a key: Authorization: Bearer KEY")
    return found[1]


def _tell(headers: MutableHeaders, requests: Bucket) -> None:
    told = (requests.most, int(requests.held), ceil(requests.seconds_to(requests.most)))
    for name, value in zip(QUOTA, told, strict=True):
        headers[name] = str(value)
