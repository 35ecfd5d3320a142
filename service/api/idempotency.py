"""The `Idempotency-Key` header: a retried request gets the first response and changes nothing.

A process handles requests with the same key one at a time: a retry waits for the first and gets its
response. Another process may do the same work concurrently; the database lets one of them write,
and the other returns that one's response. Only successful responses are stored, for
`ERC_SESSIONS__IDEMPOTENCY_RETENTION_S`, so that a failed request can be retried under its key.

The response is stored in the transaction that writes a dialogue or a job. Demonstrations are in
another database: their response is stored after they are written, and a request that a crash
interrupts in between is done again on a retry. That changes nothing, except that a repeated
deletion finds nothing.

Stored responses contain no texts of demonstrations, which are looked up on a replay, and no path
prefix of a proxy, because a retry may come through another one.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import orjson
from fastapi import Depends, Header, Request, Response

from service.api.bodies.json_bodies import json_response
from service.api.links import located, prefix, with_prefix, without_prefix
from service.api.problems.answers import invalid
from service.api.request_headers import prefers_async
from service.api.response_headers import LOCATION, REPLAYED
from service.api.services import Services, ServicesDep, TenantDep
from service.recognition.document import without_texts
from service.sessions.idempotency import AlreadyAnswered, Answer, Key, Once

Written = TypeVar("Written")

_IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Your own name for this request, in visible ASCII characters. A retry with the "
        "same key gets the first response, with `Idempotency-Replayed: true`, and is not done "
        "again; while the first request is in progress, the retry waits for it. Another request "
        "with the same key is refused.",
    ),
]


UntoldKey = Annotated[str | None, Header(alias="Idempotency-Key", include_in_schema=False)]
"""The key of a call that does not take one."""


def refuse_key(key: str | None, where: str) -> None:
    """Refuse a key, which would promise a response that is not stored.

    Args:
        where: what does not take it, such as "here".

    Raises:
        RequestValidationError: there is a key.
    """
    if key is not None:
        detail = f"is not accepted {where}: the response is not stored"
        raise invalid("Idempotency-Key", detail=detail, source="header")


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that may be retried; without a key it is done each time."""

    services: Services
    key: Key | None

    async def write(
        self,
        do: Callable[[Once[Written] | None], Awaitable[Response]],
        respond: Callable[[Written], Response],
    ) -> Response:
        """Do a write that stores its own response, or replay the stored one.

        Args:
            do: takes the key and what is stored for it, for the transaction that writes.
            respond: makes the stored response of what is written.

        Raises: as `answer`.
        """
        if self.key is None:
            return await do(None)
        once: Once[Written] = Once(self.key, lambda written: _stored(respond(written)))
        return await self._done_or_replayed(self.key, lambda: do(once))

    async def answer(
        self,
        do: Callable[[], Awaitable[Response]],
        *,
        again: Callable[[], Response] | None = None,
    ) -> Response:
        """Do the work of the request and store its response, or replay the stored one.

        Args:
            again: makes the response from the request alone, so that only its status is stored.

        Raises:
            DialogueErased: the request succeeded, and its dialogue has been erased since.
            IdempotencyKeyReused: the key was sent with another request.
            TooManyAnswers: the tenant has reached its limit of stored responses.
            DatabaseUnavailable: the response cannot be looked up or stored.
        """
        key = self.key
        if key is None:
            return await do()

        async def do_and_keep() -> Response:
            response = await do()
            status_alone = Answer(response.status_code)
            stored = status_alone if again is not None else _stored(response)
            await self.services.sessions.answers.keep(key, stored)
            return response

        return await self._done_or_replayed(key, do_and_keep, again)

    async def amend(self, response: Response) -> None:
        """Replace the stored response; does nothing without a key, or where none is stored."""
        if self.key is not None:
            await self.services.sessions.answers.amend(self.key, _stored(response))

    async def _done_or_replayed(
        self,
        key: Key,
        do: Callable[[], Awaitable[Response]],
        again: Callable[[], Response] | None = None,
    ) -> Response:
        answers = self.services.sessions.answers
        async with self.services.keys.of(key.tenant, key.value):
            stored = await answers.find(key)
            if stored is not None:
                return await self._replayed(stored, again)
            try:
                async with answers.room(key.tenant, self.services.limits.answers):
                    return await do()
            except AlreadyAnswered as already:
                return await self._replayed(already.answer, again)

    async def _replayed(self, stored: Answer, again: Callable[[], Response] | None) -> Response:
        if again is not None:
            response = again()
        elif stored.body:
            tenant = "" if self.key is None else self.key.tenant
            (document,) = await self.services.with_texts([orjson.loads(stored.body)], tenant)
            response = json_response(with_prefix(document), stored.status)
        else:
            response = Response(status_code=stored.status)
        response.headers[REPLAYED] = "true"
        if stored.location is not None:
            response.headers[LOCATION] = located(stored.location)
        return response


def no_content(_: object = None) -> Response:
    """The response to a write that leaves nothing to show."""
    return Response(status_code=204)


async def _repeatable(
    request: Request,
    tenant: TenantDep,
    services: ServicesDep,
    idempotency_key: _IdempotencyKey = None,
) -> Repeatable:
    if idempotency_key is None:
        return Repeatable(services, None)
    return Repeatable(services, Key(tenant, idempotency_key, await _fingerprint(request)))


async def _fingerprint(request: Request) -> str:
    """A hash of method, path, query, body and whether the client prefers an asynchronous response.

    The formatting of the JSON does not matter.
    """
    content = b""
    if request.method != "DELETE" and await request.body():
        content = orjson.dumps(await request.json(), option=orjson.OPT_SORT_KEYS)
    later = "respond-async" if prefers_async(request.headers.getlist("prefer")) else ""
    head = f"{request.method} {request.url.path}?{request.url.query} {later}\n".encode()
    return hashlib.sha256(head + content).hexdigest()


def _stored(response: Response) -> Answer:
    location = response.headers.get(LOCATION)
    if location is not None:
        location = location.removeprefix(prefix())
    if not response.body:
        return Answer(response.status_code, location=location)
    document = without_texts(without_prefix(orjson.loads(response.body)))
    return Answer(response.status_code, orjson.dumps(document).decode(), location)


RepeatableDep = Annotated[Repeatable, Depends(_repeatable)]
