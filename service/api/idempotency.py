"""The `Idempotency-Key` header: a request that is sent again is answered again, not done again.

Of requests with one key, one at a time is done in a process: a repeated one waits for the first and
gets its answer. Another process may be at the same work at once; the database lets one of them
write, and the other gives its answer. Only what succeeds is kept, so that a failure can be retried
under the same key, and it is kept for as long as `ERC_SESSIONS__IDEMPOTENCY_S` says.

The answer is kept in the transaction that writes a dialogue or a job. Demonstrations lie elsewhere:
their answer is kept once they are written, and a request that a crash cut off in between is done
again, which changes nothing, save that what was deleted is then not found.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import orjson
from fastapi import Depends, Header, Request, Response

from service.api.headers import LOCATION, REPLAYED
from service.api.preferences import prefers_async
from service.api.services import Services, ServicesDep, TenantDep
from service.sessions.answers import AlreadyAnswered, Answer, Key, Once

Written = TypeVar("Written")

_IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Your own name for this request: visible ASCII characters. Sent again with the "
        "same key, the same request is answered as before and not done again, with "
        "`Idempotency-Replayed: true`; while the first is under way, the repeated one waits for "
        "it. Another request with the same key is refused.",
    ),
]


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that may be sent again; without a key it is done each time."""

    services: Services
    key: Key | None

    def once(self, answer: Callable[[Written], Response]) -> Once[Written] | None:
        """For a write that keeps its own answer."""
        if self.key is None:
            return None
        return Once(self.key, lambda written: _kept(answer(written)))

    async def answer(
        self, do: Callable[[], Awaitable[Response]], *, keeps: bool = False
    ) -> Response:
        """Do what is asked, or answer what was answered before.

        Args:
            keeps: `do` has its answer kept by itself, through `once`.

        Raises:
            IdempotencyKeyReused: the key came with another request.
            DatabaseUnavailable: what was answered cannot be looked up or kept.
        """
        if self.key is None:
            return await do()
        answers = self.services.sessions.answers
        async with self.services.keys.of(self.key.tenant, self.key.value):
            found = await answers.find(self.key)
            if found is not None:
                return _replayed(found)
            try:
                answer = await do()
                if not keeps:
                    await answers.keep(self.key, _kept(answer))
            except AlreadyAnswered as already:
                return _replayed(already.answer)
            return answer


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
    """Of method, path, query, body and whether the answer may come before the work is done.

    How the JSON is written does not matter.
    """
    content = b""
    if request.method != "DELETE" and await request.body():
        content = orjson.dumps(await request.json(), option=orjson.OPT_SORT_KEYS)
    later = "respond-async" if prefers_async(request.headers.getlist("prefer")) else ""
    head = f"{request.method} {request.url.path}?{request.url.query} {later}\n".encode()
    return hashlib.sha256(head + content).hexdigest()


def _kept(answer: Response) -> Answer:
    location = answer.headers.get(LOCATION)
    return Answer(answer.status_code, bytes(answer.body).decode(), location)


def _replayed(answer: Answer) -> Response:
    headers = {REPLAYED: "true"}
    if answer.location is not None:
        headers[LOCATION] = answer.location
    media_type = "application/json" if answer.body else None
    return Response(answer.body or None, answer.status, headers, media_type)


RepeatableDep = Annotated[Repeatable, Depends(_repeatable)]
