"""The HTTP/1.1 protocol with limits on connections and on idle time.

A server that accepts every connection, waits for ever for a request, or keeps all that is sent
instead of one, has its places and its memory taken by clients that want nothing else.
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
from service.api.middleware.cross_origin import shared_with
from service.api.middleware.hosts import host_of_target
from service.api.problems.answers import problem_answer
from service.api.problems.kinds import BAD_REQUEST, HEAD_TOO_LARGE, PROBLEMS, Kind
from service.api.response_headers import CONNECTION, EVERY_ANSWER, REQUEST_ID
from service.errors import Overloaded

log = logging.getLogger(__name__)

# A connection on which no request is under way has so long to begin one, and then for its head.
HEAD_S = 10.0
# A client that is gone, or takes too little of what it is sent, loses its connection by then.
UNREAD_S = 60.0
# Where there is no room, who has waited for longer makes way for a newcomer.
_MAKES_WAY_S = 1.0
# So many that were refused are given the time to read it.
_MOST_REFUSED = 64

CountProblem = Callable[[str], None]
"""Counts an answer that is a problem, by its type."""


class HeldFlow(FlowControl):
    """Flow control that reads no more while what was read already must wait."""

    _held = False

    def hold(self, held: bool) -> None:
        if held != self._held:
            self._held = held
            (self.pause_reading if held else self.resume_reading)()

    def resume_reading(self) -> None:
        if not self._held:
            super().resume_reading()


class BoundedConnection(HttpToolsProtocol):
    """A connection that keeps its place only while a request is under way on it.

    Without one it has so many seconds, whatever comes that is no request. It reads one request at
    a time, and of what surrounds bodies only so much. An answer that does not wait for the whole of
    its request is the connection's last.
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
        **more: Any,
    ) -> None:
        super().__init__(*arguments, **more)
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

    # What the transport says

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

    # What the parser finds

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
        if self._framing.in_head:  # trailers are no headers (RFC 9110, section 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() or self.parser.get_http_version() not in ("1.0", "1.1"):
            raise httptools.HttpParserError  # the parser would make another of it
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

    # What becomes of a request

    @property
    def _is_under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_due(self) -> bool:
        """Whether the request has come whole, and only its answer is missing."""
        return self._is_under_way and not self.cycle.more_body

    def on_response_complete(self) -> None:
        came_whole = bool(self.pipeline) or not self.cycle.more_body
        super().on_response_complete()
        self._unset_keepalive_if_required()
        if self._is_under_way:  # another one that came with the last
            return
        self._expect_head()
        if not came_whole:
            self.transport.close()
        elif not self.transport.is_closing():
            Context().run(self._read)  # the next request knows nothing of this one

    def shutdown(self) -> None:
        if self._is_under_way and not self.transport.is_closing():
            super().shutdown()
        else:
            self.transport.close_now()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        super()._start_asgi_task(cycle, _announcing_close(cycle, app))  # type: ignore[arg-type]

    def _read(self) -> None:
        """Give the parser what was received, up to the end of a request."""
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
        """Answer what cannot be taken with a problem, if that can be said, and close."""
        self._received.clear()
        if self._is_due:  # it came behind a request, which is answered first
            self.cycle.keep_alive = False
            return
        answering = False
        if self._is_under_way:  # it came in the request's body
            answering = self.cycle.response_started or bool(self.pipeline)
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._expect_head()
        if not answering:
            self._answer(kind, detail)
        self.transport.close()

    def _answer(self, kind: Kind, detail: str) -> None:
        """Answer a problem that is the connection's last answer."""
        self._count_problem(kind.type)
        with under(self._prefix):
            shared = shared_with(self._origin(), self._origins)
            head, body = _closing_answer(kind, detail, shared)
        self.transport.write(head if self._asks_for_head else head + body)

    def _origin(self) -> str | None:
        """Whose page asks, as far as that was read."""
        given = [value for name, value in self.headers or () if name == b"origin"]
        return given[0].decode("latin-1") if len(given) == 1 else None

    # How long it may take

    def _expect_head(self) -> None:
        self._expect_no_head()
        self._waiting.add(self, self.loop.time())
        self._head_due = self.loop.call_later(self._head_s, self._give_up)

    def _expect_no_head(self) -> None:
        self._waiting.remove(self)
        _cancel(self._head_due)

    def _give_up(self) -> None:
        # What is still to be read has a time of its own.
        if not (self.transport.is_closing() or self.flow.write_paused):
            self.transport.close_now()

    def _notice_silence(self) -> None:
        # Where little was written, nothing tells that nobody takes it.
        connection = self.transport.get_extra_info("socket")
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            milliseconds = round(self._unread_s * 1000)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    # How many there may be

    def _make_room(self) -> bool:
        """Cut off the connection that has waited longest for its client, if it has for a while."""
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
    """What uvicorn makes for each connection.

    Args:
        most: connections that may be open.
        head_s: seconds in which a request is to be begun, and in which its head is to be sent.
        unread_s: seconds in which a client takes what it is sent.
        prefix: what links begin with where it is not known yet what is asked.
        origins: whose pages may read what is answered.
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
    """An application whose answer says so where it does not wait for the rest of the request."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def announcing(message: Message) -> None:
            if cycle.more_body and message["type"] == "http.response.start" and _is_known(message):
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, announcing)

    return answer


def _is_known(start: Message) -> bool:
    """Whether an answer is known from its start on; others may be made while a body is read."""
    without_body = start["status"] in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
    return without_body or any(name.lower() == b"content-length" for name, _ in start["headers"])


def _closing_answer(kind: Kind, detail: str, shared: Mapping[str, str]) -> tuple[bytes, bytes]:
    """A problem as the bytes of a connection's last answer, its head and its body."""
    request_id = uuid4().hex
    log.debug("request %s: %s: %s", request_id, kind.name, detail)
    named = {REQUEST_ID: request_id, **EVERY_ANSWER, **shared, CONNECTION: "close"}
    answer = problem_answer(request_id, kind, detail, named)
    status = HTTPStatus(kind.status)
    lines = [b"%b: %b" % header for header in answer.raw_headers]
    head = [f"HTTP/1.1 {status} {status.phrase}".encode(), *lines, b"", b""]
    return b"\r\n".join(head), bytes(answer.body)


def _reason(error: httptools.HttpParserError) -> str:
    if isinstance(error, httptools.HttpParserCallbackError):
        return "only HTTP/1.1 is spoken here, and the request's target must be a path"
    return str(error)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
