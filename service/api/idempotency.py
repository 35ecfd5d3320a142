"""The `Idempotency-Key` header: a retried request gets the first response and changes nothing.

Of requests with one key, one at a time is done in a process: a repeated one waits for the first and
gets its answer. Another process may be at the same work at once; the database lets one of them
write, and the other gives its answer. Only what succeeds is kept, so that a failure can be retried
under the same key, and it is kept for as long as `ERC_SESSIONS__IDEMPOTENCY_RETENTION_S` says.

The answer is kept in the transaction that writes a dialogue or a job. Demonstrations lie elsewhere:
their answer is kept once they are written, and a request that a crash cut off in between is done
again, which changes nothing, save that what was deleted is then not found.

Kept answers hold no demonstration's text: it is looked up when the answer is given again. Nor do
they hold the prefix of a proxy: the request may come again by another way.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import orjson
from fastapi import Depends, Header, Request, Response

from service.api.bodies.json_bodies import json_answer
from service.api.headers.prefer import prefers_async
from service.api.links import located, prefix, with_prefix, without_prefix
from service.api.response_headers import LOCATION, REPLAYED
from service.api.services import Services, ServicesDep, TenantDep
from service.recognition.document import without_texts
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
        self,
        do: Callable[[], Awaitable[Response]],
        *,
        keeps: bool = False,
        again: Callable[[], Response] | None = None,
    ) -> Response:
        """Do what is asked, or answer what was answered before.

        Args:
            keeps: `do` has its answer kept by itself, through `once`.
            again: makes the answer from the request alone, so that nothing of it need be kept.

        Raises:
            DialogueErased: the request was done, and its dialogue has been erased since.
            IdempotencyKeyReused: the key came with another request.
            TooManyAnswers: the tenant has as many as are kept.
            DatabaseUnavailable: what was answered cannot be looked up or kept.
        """
        if self.key is None:
            return await do()
        answers = self.services.sessions.answers
        async with self.services.keys.of(self.key.tenant, self.key.value):
            found = await answers.find(self.key)
            if found is not None:
                return await self._replayed(found, again)
            try:
                async with answers.room(self.key.tenant, self.services.limits.answers):
                    answer = await do()
                    if not keeps:
                        kept = Answer(answer.status_code) if again is not None else _kept(answer)
                        await answers.keep(self.key, kept)
            except AlreadyAnswered as already:
                return await self._replayed(already.answer, again)
            return answer

    async def amend(self, answer: Response) -> None:
        """Replace the answer that is kept; without a key, or where it is gone, nothing is done."""
        if self.key is not None:
            await self.services.sessions.answers.amend(self.key, _kept(answer))

    async def _replayed(self, kept: Answer, again: Callable[[], Response] | None) -> Response:
        if again is not None:
            answer = again()
        elif kept.body:
            tenant = "" if self.key is None else self.key.tenant
            found = await self.services.with_texts([orjson.loads(kept.body)], tenant)
            answer = json_answer(with_prefix(found[0]), kept.status)
        else:
            answer = Response(status_code=kept.status)
        answer.headers[REPLAYED] = "true"
        if kept.location is not None:
            answer.headers[LOCATION] = located(kept.location)
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
    if location is not None:
        location = location.removeprefix(prefix())
    if not answer.body:
        return Answer(answer.status_code, location=location)
    found = without_texts(without_prefix(orjson.loads(answer.body)))
    return Answer(answer.status_code, orjson.dumps(found).decode(), location)


RepeatableDep = Annotated[Repeatable, Depends(_repeatable)]
