"""What only the server store has: a network, and a server that misbehaves.

The server here answers from a script in Qdrant's wire format, so that it can fail on command. That
the real one agrees with the reference is shown by test_store_contract.py.
"""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient
from qdrant_client import grpc as qdrant

from service.demonstrations.qdrant_server import ServerLimits, ServerStore, open_server
from service.demonstrations.store import IndexMismatch
from service.errors import DemonstrationNotFound, DemonstrationsUnavailable
from service.tracing import Trace, traced
from tests.clock import PATIENT_S, Clock

ENCODER = "reference@00000000"
PATIENT = ServerLimits(read_s=PATIENT_S, write_s=PATIENT_S)


class Script:
    """An HTTP server with one collection, called "c".

    Attributes:
        metadata: of the collection.
        status: answers with this status, where not 200.
        headers: further header lines of an answer.
        body: answers with these bytes, where set.
        hangs: reads requests and never answers.
        hnsw: configuration of the collection's graphs.
        requests: those that had a body, as ("PUT /path", body).
        traces: the traceparent of each request, None where it had none.
        connections: how many have been made.
    """

    def __init__(self) -> None:
        self.metadata: dict[str, str] | None = {"encoder": ENCODER}
        self.status = 200
        self.headers = ""
        self.body: bytes | None = None
        self.hangs = False
        self.hnsw = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000}
        self.requests: list[tuple[str, Any]] = []
        self.traces: list[str | None] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, path = head.split("?")[0].split()[:2]
                parent = re.search(r"traceparent: (\S+)", head.lower())
                self.traces.append(None if parent is None else parent[1])
                length = re.search(r"content-length: (\d+)", head.lower())
                if length is not None:
                    payload = await reader.readexactly(int(length[1]))
                    self.requests.append((f"{method} {path}", json.loads(payload)))
                if self.hangs:
                    await asyncio.Event().wait()
                body = self.body if self.body is not None else self._answer(method, path)
                writer.write(
                    f"HTTP/1.1 {self.status} Scripted\r\ncontent-type: application/json\r\n"
                    f"{self.headers}content-length: {len(body)}\r\n\r\n".encode()
                    + body
                )
        except asyncio.IncompleteReadError:  # the client has closed the connection
            pass
        finally:
            writer.close()

    def _answer(self, method: str, path: str) -> bytes:
        if method == "PATCH":
            return b'{"result": true, "status": "ok", "time": 0.001}'
        results: dict[str, object] = {
            "/collections/c/points": [],
            "/collections/c/points/delete": {"operation_id": 2, "status": "completed"},
            "/collections/c/points/query": {"points": []},
            "/collections/c/exists": {"exists": True},
            "/collections/c/index": {"operation_id": 1, "status": "completed"},
            "/collections/c/points/count": {"count": 0},
            "/collections/c": {
                "status": "green",
                "optimizer_status": "ok",
                "segments_count": 1,
                "payload_schema": {},
                "config": {
                    "params": {"vectors": {"size": 384, "distance": "Cosine"}},
                    "hnsw_config": self.hnsw,
                    "optimizer_config": {
                        "deleted_threshold": 0.2,
                        "vacuum_min_vector_number": 1000,
                        "default_segment_number": 0,
                        "flush_interval_sec": 5,
                    },
                    "metadata": self.metadata,
                },
            },
        }
        return json.dumps({"result": results[path], "status": "ok", "time": 0.001}).encode()


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    script = Script()
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    yield script
    server.close()


@pytest.fixture
async def store(script: Script) -> AsyncIterator[ServerStore]:
    store = await open_server(script.url, None, "c", ENCODER, limits=PATIENT)
    yield store
    await store.close()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@pytest.mark.parametrize("prefer_grpc", [False, True])
async def test_refused_connection_is_our_error(closed_port: int, prefer_grpc: bool) -> None:
    """Whoever starts the service is told where it looked, without the password."""
    with pytest.raises(DemonstrationsUnavailable) as caught:
        await open_server(
            f"http://ann:secret@127.0.0.1:{closed_port}",
            None,
            "c",
            ENCODER,
            prefer_grpc=prefer_grpc,
            grpc_port=closed_port,
            limits=PATIENT,
        )

    assert f"127.0.0.1:{closed_port}" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_grpc_server_that_hangs_is_given_up(script: Script) -> None:
    """The deadline holds for gRPC too."""
    script.hangs = True

    with pytest.raises(DemonstrationsUnavailable):
        await open_server(
            script.url,
            None,
            "c",
            ENCODER,
            prefer_grpc=True,
            grpc_port=script.port,
            limits=ServerLimits(read_s=2, write_s=2),
        )


async def test_collection_that_says_nothing_of_its_encoder_is_refused(script: Script) -> None:
    """A collection that something else made, or a server too old for metadata."""
    script.metadata = None

    with pytest.raises(IndexMismatch, match=r"collection c .* unknown encoder"):
        await open_server(script.url, None, "c", ENCODER)


async def test_connection_to_this_machine_is_kept(script: Script, store: ServerStore) -> None:
    """Opening and three pings take one connection between them."""
    for _ in range(3):
        await store.ping()

    assert script.connections == 1


async def test_graphs_are_asked_for_label_spaces_that_are_large_enough(script: Script) -> None:
    """Each has graphs of its own from the limit on, and none that mixes them; 1.5 KiB a vector."""
    limits = ServerLimits(exact_up_to=2_000)

    await (await open_server(script.url, None, "c", ENCODER, limits=limits)).close()

    requests = dict(script.requests)
    assert requests["PATCH /collections/c"]["hnsw_config"] == {
        "m": 0,
        "payload_m": 32,
        "ef_construct": 200,
        "full_scan_threshold": 3_000,
    }
    indexes = [body for request, body in script.requests if request == "PUT /collections/c/index"]
    assert indexes == [
        {"field_name": "label_space", "field_schema": {"type": "keyword", "is_tenant": True}},
        {"field_name": "edition", "field_schema": {"type": "keyword", "enable_hnsw": False}},
        {"field_name": "tenant", "field_schema": {"type": "keyword", "enable_hnsw": False}},
        {"field_name": "kind", "field_schema": {"type": "keyword", "enable_hnsw": False}},
    ]


async def test_collection_that_has_its_graphs_is_left_alone(script: Script) -> None:
    """A server that is told how to build graphs begins to build them."""
    script.hnsw = {"m": 0, "payload_m": 32, "ef_construct": 200, "full_scan_threshold": 3_000}

    await (
        await open_server(script.url, None, "c", ENCODER, limits=ServerLimits(exact_up_to=2_000))
    ).close()

    assert not [request for request, _ in script.requests if request.startswith("PATCH")]


async def test_search_leaves_to_the_server_what_has_a_graph(
    script: Script, store: ServerStore
) -> None:
    """It knows how large a label space is, whoever wrote to it; 256 candidates in a graph."""
    await store.nearest(np.eye(384, dtype=np.float32)[0], "meld", k=4)

    request, body = script.requests[-1]
    assert request == "POST /collections/c/points/query"
    assert body["params"] == {"hnsw_ef": 256}


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
async def test_status_of_a_refusal_is_reported(
    script: Script, store: ServerStore, status: int
) -> None:
    """And nothing else of what the server said, which clients of the service must not see."""
    script.status = status
    script.body = b'{"status": {"error": "secret"}}'

    with pytest.raises(DemonstrationsUnavailable) as caught:
        await store.count()

    assert str(caught.value) == f"the demonstration server answered with status {status}"


@pytest.mark.parametrize("headers", ["", "retry-after: 1\r\n"])
async def test_overloaded_server_is_our_error(
    script: Script, store: ServerStore, headers: str
) -> None:
    """The client raises another error when the server says when to come back."""
    script.status = 429
    script.headers = headers
    script.body = b"{}"

    with pytest.raises(DemonstrationsUnavailable):
        await store.count()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"result": {"count": "many"}}'])
async def test_answer_that_makes_no_sense_is_our_error(
    script: Script, store: ServerStore, body: bytes
) -> None:
    """Also where the client fails in the midst of reading it."""
    script.body = body

    with pytest.raises(DemonstrationsUnavailable):
        await store.count()


async def test_server_that_hangs_is_given_up_and_taken_up_again(
    script: Script, store: ServerStore, clock: Clock
) -> None:
    """The error says how long it waited; the next call finds a server that has recovered."""
    script.hangs = True
    counting = asyncio.create_task(store.count())
    await clock.skip(PATIENT_S)
    with pytest.raises(DemonstrationsUnavailable, match=f"did not answer in {PATIENT_S:g} s"):
        await counting

    script.hangs = False

    assert await store.count() == 0


async def test_what_a_server_does_not_find_is_deleted_all_the_same(
    script: Script, store: ServerStore
) -> None:
    """A replica that lags finds nothing, and the text would stay on the others."""
    with pytest.raises(DemonstrationNotFound):
        await store.delete("a", "one")

    request, body = script.requests[-1]
    assert request == "POST /collections/c/points/delete"
    assert len(body["points"]) == 1


async def test_a_failure_is_logged_once_with_its_kind_until_the_server_works(
    script: Script, store: ServerStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Without what the server said besides, which may be what people say."""
    for _ in range(3):
        script.status, script.body = 401, b'{"status": {"error": "We won!"}}'
        for _ in range(3):
            with pytest.raises(DemonstrationsUnavailable):
                await store.count()
        script.status, script.body = 200, None
        await store.count()

    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 3
    assert all("UnexpectedResponse: Unexpected Response: 401" in each for each in warnings)
    assert "We won!" not in caplog.text


async def test_a_mistake_in_a_call_is_not_taken_for_a_failure_of_the_server(
    script: Script, store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It surfaces as the mistake it is."""

    async def count(*_: Any, **__: Any) -> None:
        raise TypeError("count() got an unexpected keyword argument")

    monkeypatch.setattr(store._client, "count", count)

    with pytest.raises(TypeError):
        await store.count()


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = Trace(TRACEPARENT[3:35], TRACEPARENT[36:52], lambda: {"traceparent": TRACEPARENT}, None)


async def test_the_server_is_told_the_trace_of_what_is_asked(
    script: Script, store: ServerStore
) -> None:
    """And nothing where there is none, not even the one before."""
    script.traces.clear()

    with traced(TRACE):
        await store.nearest(np.ones(384, np.float32), "meld", 1)
    await store.nearest(np.ones(384, np.float32), "meld", 1)

    assert script.traces == [TRACEPARENT, None]


class Points(qdrant.PointsServicer):
    """Finds nothing, and keeps what came with the question."""

    def __init__(self) -> None:
        self.traces: list[object] = []

    async def Query(self, request: object, context: Any) -> Any:  # noqa: N802
        self.traces.append(dict(context.invocation_metadata()).get("traceparent"))
        return qdrant.QueryResponse()


async def test_a_server_is_told_so_by_grpc_too() -> None:
    """In the call's metadata."""
    points, server = Points(), grpc.aio.server()
    qdrant.add_PointsServicer_to_server(points, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = AsyncQdrantClient(
        "http://127.0.0.1:9", prefer_grpc=True, grpc_port=port, check_compatibility=False
    )
    store = ServerStore(client, "c", PATIENT)

    with traced(TRACE):
        await store.nearest(np.ones(384, np.float32), "meld", 1)
    await store.nearest(np.ones(384, np.float32), "meld", 1)

    assert points.traces == [TRACEPARENT, None]
    await store.close()
    await server.stop(None)
