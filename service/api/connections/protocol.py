"""The HTTP/1.1 protocol with limits on connections and on idle time.

A server that accepts every connection, waits for a request for ever, or buffers whatever arrives
instead of one, loses its connections and its memory to idle or hostile clients.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Mapping
from contextvars import Context
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.admission.rejections import CountRejection, Rejection
from service.api.connections.framing import Framing
from service.api.connections.lingering import LingeringTransport
from service.api.connections.room import Waiting
from service.api.head_limits import MOST_BYTES_OUTSIDE_BODIES, MOST_HEADERS
from service.api.links import under
from service.api.middleware.addressing import host_of_target
from service.api.middleware.cross_origin import shared_with
from service.api.problems.answers import problem_response
from service.api.problems.kinds import BAD_REQUEST, HEAD_TOO_LARGE, PROBLEMS, Kind
from service.api.response_headers import CONNECTION, EVERY_RESPONSE, REQUEST_ID
from service.errors import Overloaded

log = logging.getLogger(__name__)

# An idle connection must begin a request within this time, and then send its head within it.
HEAD_S = 10.0
# A client that is gone, or does not read what it is sent, is disconnected after this time.
UNREAD_S = 60.0
# At the limit, a connection that has been idle for longer is closed in favour of a new one.
_MAKES_WAY_S = 1.0
# How many refused connections may stay open at once so that their clients can read the refusal.
_MOST_REFUSED = 64

CountProblem = Callable[[str], None]
"""Counts a problem response, by its type."""


class HeldFlow(FlowControl):
    """Flow control that stops reading while received data must wait."""

    _held = False

    def hold(self, hold: bool) -> None:
        if hold != self._held:
            self._held = hold
            (self.pause_reading if hold else self.resume_reading)()

    def resume_reading(self) -> None:
        if not self._held:
            super().resume_reading()


class BoundedConnection(HttpToolsProtocol):
    """A connection that is kept open only while it carries a request.

    Without one it is closed after some seconds, whatever arrives that is not a request. It reads
    one request at a time, and a limited number of bytes outside bodies. A response that does not
    wait for the whole request is the connection's last.
    """

    transport: LingeringTransport
    flow: HeldFlow

    def __init__(
        self,
        *arguments: Any,
        most: int,
        head_s: float,
        unread_s: float,
        reject: CountRejection,
        count_problem: CountProblem,
        prefix: str,
        origins: Collection[str],
        waiting: "Waiting[BoundedConnection]",
        refused: "set[BoundedConnection]",
        **uvicorn_options: Any,
    ) -> None:
        super().__init__(*arguments, **uvicorn_options)
        self._most = most
        self._head_s = head_s
        self._unread_s = unread_s
        self._reject = reject
        self._count_problem = count_problem
        self._prefix = prefix
        self._origins = origins
        self._waiting = waiting
        self._refused = refused
        self._received = bytearray()
        self._framing = Framing()
        self._asks_for_head = False
        self._head_due: asyncio.TimerHandle | None = None
        self._reading_due: asyncio.TimerHandle | None = None

    # Called by the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        lingering = LingeringTransport(transport, self.loop, self._unread_s)
        if len(self.connections) >= self._most and not self._make_room():
            self.transport = lingering
            self._turn_away()
            return
        super().connection_made(lingering)
        self.flow = HeldFlow(lingering)
        self._notice_silence()
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            self.transport.discard(len(data))
        else:
            self._received += data
            self._read()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._waiting.add(self, self.loop.time())
        self._reading_due = self.loop.call_later(self._unread_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._reading_due)
        if self._is_under_way:
            self._waiting.remove(self)
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport.lost()
        self._refused.discard(self)
        self._received.clear()
        _cancel(self._reading_due)
        self._expect_no_head()
        super().connection_lost(exc)

    # Called by the parser

    def on_message_begin(self) -> None:
        self._framing.begin()
        if not self._is_under_way:
            self._expect_head()
        self._asks_for_head = False
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._asks_for_head = self.parser.get_method() == b"HEAD"
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._framing.in_head:  # trailers are not headers (RFC 9110, section 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() or self.parser.get_http_version() not in ("1.0", "1.1"):
            raise httptools.HttpParserError  # the parser would misread what follows
        host_of_target(self.url, self.headers)
        super().on_headers_complete()
        self._framing.end_head(self.headers)
        self._expect_no_head()

    def on_body(self, body: bytes) -> None:
        self._framing.count_body(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._framing.end()
        super().on_message_complete()

    # The course of a request

    @property
    def _is_under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_due(self) -> bool:
        """Whether the request has arrived completely and only its response is missing."""
        return self._is_under_way and not self.cycle.more_body

    def on_response_complete(self) -> None:
        came_whole = bool(self.pipeline) or not self.cycle.more_body
        super().on_response_complete()
        self._unset_keepalive_if_required()
        if self._is_under_way:  # a pipelined request
            return
        self._expect_head()
        if not came_whole:
            self.transport.close()
        elif not self.transport.is_closing():
            Context().run(self._read)  # no context variable leaks into the next request

    def shutdown(self) -> None:
        if self._is_under_way and not self.transport.is_closing():
            super().shutdown()
        else:
            self.transport.close_now()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        super()._start_asgi_task(cycle, _announcing_close(cycle, app))  # type: ignore[arg-type]

    def _read(self) -> None:
        """Feed the parser what was received, up to the end of a request."""
        while not self._is_due:
            piece = self._framing.take(self._received)
            if self._framing.is_too_much(0 if piece else len(self._received)):
                most = f"at most {MOST_BYTES_OUTSIDE_BODIES} bytes are allowed outside a body"
                self._refuse(HEAD_TOO_LARGE, most)
                return
            if not piece:
                break
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserError as error:
                self._refuse(BAD_REQUEST, _reason(error))
                return
            if len(self.headers) > MOST_HEADERS:
                self._refuse(HEAD_TOO_LARGE, f"at most {MOST_HEADERS} headers are allowed")
                return
        self._framing.skip_blank_lines(self._received)
        self.flow.hold(self._is_due and bool(self._received))

    def _refuse(self, kind: Kind, detail: str) -> None:
        """Respond with a problem, if a response can still be sent, and close."""
        self._received.clear()
        if self._is_due:  # it follows a request, whose response comes first
            self.cycle.keep_alive = False
            return
        answering = False
        if self._is_under_way:  # it is in the request's body
            answering = self.cycle.response_started or bool(self.pipeline)
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._expect_head()
        if not answering:
            self._answer(kind, detail)
        self.transport.close()

    def _answer(self, kind: Kind, detail: str) -> None:
        """Send a problem as the connection's last response."""
        self._count_problem(kind.type)
        with under(self._prefix):
            shared = shared_with(self._origin(), self._origins)
            head, body = _closing_response(kind, detail, shared)
        self.transport.write(head if self._asks_for_head else head + body)

    def _origin(self) -> str | None:
        """The request's `Origin`, if it has arrived."""
        origins = [value for name, value in self.headers or () if name == b"origin"]
        return origins[0].decode("latin-1") if len(origins) == 1 else None

    # Timeouts

    def _expect_head(self) -> None:
        self._expect_no_head()
        self._waiting.add(self, self.loop.time())
        self._head_due = self.loop.call_later(self._head_s, self._give_up)

    def _expect_no_head(self) -> None:
        self._waiting.remove(self)
        _cancel(self._head_due)

    def _give_up(self) -> None:
        # While the client has yet to read, the other timeout applies.
        if not (self.transport.is_closing() or self.flow.write_paused):
            self.transport.close_now()

    def _notice_silence(self) -> None:
        # Short responses fit in the kernel's buffers: only the kernel notices that nobody reads.
        connection = self.transport.get_extra_info("socket")
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            milliseconds = round(self._unread_s * 1000)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    # The number of connections

    def _make_room(self) -> bool:
        """Close the connection that has been idle longest, if for more than `_MAKES_WAY_S`."""
        longest = self._waiting.longest(self.loop.time() - _MAKES_WAY_S)
        if longest is None:
            return False
        self._reject(Rejection.CONNECTIONS)
        self._waiting.remove(longest)
        self.connections.discard(longest)
        longest.transport.abort()
        return True

    def _turn_away(self) -> None:
        self._reject(Rejection.CONNECTIONS)
        if len(self._refused) >= _MOST_REFUSED:
            self.transport.abort()
            return
        self._refused.add(self)
        self._answer(PROBLEMS[Overloaded], "too many connections are open")
        self.transport.close()


def bounded(
    most: int,
    reject: CountRejection,
    count_problem: CountProblem,
    head_s: float = HEAD_S,
    unread_s: float = UNREAD_S,
    *,
    prefix: str = "",
    origins: Collection[str] = (),
) -> Callable[..., BoundedConnection]:
    """A factory of protocols, one per connection, for uvicorn.

    Args:
        most: how many connections may be open.
        head_s: seconds to begin a request, and again to send its head.
        unread_s: seconds in which a client must read what it is sent.
        prefix: the path prefix of links in responses to requests that cannot be read.
        origins: whose pages may read the responses.
    """
    return partial(
        BoundedConnection,
        most=most,
        head_s=head_s,
        unread_s=unread_s,
        reject=reject,
        count_problem=count_problem,
        prefix=prefix,
        origins=origins,
        waiting=Waiting[BoundedConnection](),
        refused=set(),
    )


def _announcing_close(cycle: RequestResponseCycle, app: ASGIApp) -> ASGIApp:
    """Wrap an application: a response that does not wait for the whole request announces close."""

    async def announcing_app(scope: Scope, receive: Receive, send: Send) -> None:
        async def announcing(message: Message) -> None:
            if cycle.more_body and message["type"] == "http.response.start" and _is_known(message):
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, announcing)

    return announcing_app


def _is_known(start: Message) -> bool:
    """Whether a response is complete from its start; others may be made while a body is read."""
    without_body = start["status"] in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
    return without_body or any(name.lower() == b"content-length" for name, _ in start["headers"])


def _closing_response(kind: Kind, detail: str, shared: Mapping[str, str]) -> tuple[bytes, bytes]:
    """A problem as the head and the body, in bytes, of a connection's last response."""
    request_id = uuid4().hex
    log.debug("request %s: %s: %s", request_id, kind.name, detail)
    headers = {REQUEST_ID: request_id, **EVERY_RESPONSE, **shared, CONNECTION: "close"}
    response = problem_response(request_id, kind, detail, headers)
    status = HTTPStatus(kind.status)
    lines = [b"%b: %b" % header for header in response.raw_headers]
    head = [f"HTTP/1.1 {status} {status.phrase}".encode(), *lines, b"", b""]
    return b"\r\n".join(head), bytes(response.body)


def _reason(error: httptools.HttpParserError) -> str:
    if isinstance(error, httptools.HttpParserCallbackError):
        return "only HTTP/1.1 is supported, and the request's target must be a path"
    return str(error)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
