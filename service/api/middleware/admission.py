"""Middleware that admits requests and cancels those whose client has disconnected."""

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.admission.deadline import RequestDeadline
from service.admission.door import Door
from service.api.events.stream import EVENT_STREAM
from service.api.policies import policy_of
from service.api.problems.answers import response_of
from service.api.request_headers import is_lines, preferred_wait
from service.api.response_headers import APPLIED
from service.errors import ClientLeft, ServiceError


class AdmittedRequests:
    """Handles a request until the door's deadline or until its client disconnects.

    A client shortens the deadline with `Prefer: wait=SECONDS` (RFC 7240). When it closes its
    connection, the work in progress for it is cancelled.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app = app
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        priority = policy_of(scope).priority
        if priority is None:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        wait_s = preferred_wait(headers.getlist("prefer"))
        tenant = scope["state"]["caller"].tenant
        started = False
        try:
            async with self.door.admit(priority, tenant, wait_s) as deadline:

                async def answering(message: Message) -> None:
                    nonlocal started
                    if message["type"] == "http.response.start":
                        started = True
                        response = MutableHeaders(scope=message)
                        if wait_s is not None:
                            applied = response.getlist(APPLIED)
                            response[APPLIED] = ", ".join([*applied, f"wait={wait_s}"])
                        content_type = response.get("content-type", "")
                        # A stream lasts as long as it is read; lines, as long as work is done.
                        if content_type.startswith(EVENT_STREAM):
                            self.door.set_aside(deadline)
                        elif not is_lines(content_type):
                            deadline.begin_anew()
                    elif not message.get("more_body", False):
                        client.stop_watching()
                    await send(message)

                async with _Connection(receive, deadline, has_body=_has_body(headers)) as client:
                    await self.app(scope, client.receive, answering)
        except ServiceError as error:
            if started:  # only closing the connection remains
                if isinstance(error, ClientLeft):
                    return
                raise
            response = response_of(scope["state"]["request_id"], error)
            await response(scope, receive, send)


class _Connection:
    """Passes the request's body on, then waits for the client to disconnect."""

    def __init__(self, receive: Receive, deadline: RequestDeadline, *, has_body: bool) -> None:
        self._receive = receive
        self._deadline = deadline
        self._whole = not has_body
        self._left = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "_Connection":
        if self._whole:
            self._watch = asyncio.create_task(self._await_end())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop_watching()

    def stop_watching(self) -> None:
        """Stop watching: from here on it does not matter whether the client stays."""
        if self._watch is not None:
            self._watch.cancel()

    async def receive(self) -> Message:
        if self._watch is None:
            message = await self._receive()
            if message["type"] != "http.request":
                self._leave()
            elif not message.get("more_body", False):
                self._watch = asyncio.create_task(self._await_end())
            return message
        if self._whole:
            self._whole = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _await_end(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self._left.set()
        self._deadline.end(ClientLeft("the client has closed its connection"))


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
