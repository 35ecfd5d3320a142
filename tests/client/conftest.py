"""The real application on a port, and both clients of it behind one face."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, Literal

import httpx
import pytest

from instructerc import AsyncClient, Client, Retries
from tests.api.conftest import (
    Service,
    bundle,
    encoder,
    label_spaces,
    patient,
    service,
    start_service,
    tokenizer,
)
from tests.api.serving import Served, serving

__all__ = [
    "bundle",
    "encoder",
    "label_spaces",
    "patient",
    "service",
    "start_service",
    "tokenizer",
]

HASTY = Retries(attempts=4, first_wait_s=0.01, longest_wait_s=5)
_END = object()

Open = Callable[..., Any]


class Blocking:
    """A blocking client whose calls run in threads, so that the service goes on meanwhile."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        if name not in ("follow_dialogue", "score_lines", "read_results", "export_corrections"):

            async def call(*arguments: Any, **named: Any) -> Any:
                return await asyncio.to_thread(method, *arguments, **named)

            return call

        async def each(*arguments: Any, **named: Any) -> AsyncGenerator[Any, None]:
            items: Iterator[Any] = method(*arguments, **named)
            while (item := await asyncio.to_thread(next, items, _END)) is not _END:
                yield item

        return each


class Breaking(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Breaks connections: of the first answers, only so many bytes come through.

    Attributes:
        left: the bytes that come through of each of the next answers; later ones are whole.
        requests: those sent.
    """

    def __init__(self, *left: int) -> None:
        self.left = list(left)
        self.requests: list[httpx.Request] = []
        self._blocking = httpx.HTTPTransport()
        self._async = httpx.AsyncHTTPTransport()
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        left = self._next(request)
        response = self._blocking.handle_request(request)
        return response if left is None else self._cut(response, left, blocking=True)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        left = self._next(request)
        response = await self._async.handle_async_request(request)
        return response if left is None else self._cut(response, left, blocking=False)

    def close(self) -> None:
        self._blocking.close()

    async def aclose(self) -> None:
        await self._async.aclose()

    def _next(self, request: httpx.Request) -> int | None:
        with self._lock:
            self.requests.append(request)
            return self.left.pop(0) if self.left else None

    def _cut(self, response: httpx.Response, left: int, *, blocking: bool) -> httpx.Response:
        stream = _CutBlocking(response, left) if blocking else _CutAsync(response, left)
        return httpx.Response(response.status_code, headers=response.headers, stream=stream)


class _CutBlocking(httpx.SyncByteStream):
    def __init__(self, response: httpx.Response, left: int) -> None:
        self._response, self._left = response, left

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._response.stream, httpx.SyncByteStream)
        for chunk in self._response.stream:
            yield chunk[: self._left]
            self._left -= len(chunk)
            if self._left <= 0:
                raise httpx.ReadError("the connection broke")

    def close(self) -> None:
        self._response.close()


class _CutAsync(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response, left: int) -> None:
        self._response, self._left = response, left

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._response.stream, httpx.AsyncByteStream)
        async for chunk in self._response.stream:
            yield chunk[: self._left]
            self._left -= len(chunk)
            if self._left <= 0:
                raise httpx.ReadError("the connection broke")

    async def aclose(self) -> None:
        await self._response.aclose()


@pytest.fixture
async def served(service: Service) -> AsyncIterator[Served]:
    async with serving(service) as served:
        yield served


@pytest.fixture(params=["blocking", "asyncio"])
async def open_client(request: pytest.FixtureRequest, served: Served) -> AsyncIterator[Open]:
    """Opens a client of the service, of each kind in turn."""
    kind: Literal["blocking", "asyncio"] = request.param
    opened: list[Client | AsyncClient] = []

    def open_(**options: Any) -> Any:
        url = f"http://127.0.0.1:{served.port}"
        options = {"retries": HASTY, "following": HASTY} | options
        if kind == "blocking":
            opened.append(client := Client(url, **options))
            return Blocking(client)
        opened.append(asynchronous := AsyncClient(url, **options))
        return asynchronous

    yield open_
    for each in opened:
        if isinstance(each, Client):
            each.close()
        else:
            await each.close()


@pytest.fixture
def client(open_client: Open) -> Any:
    return open_client()
