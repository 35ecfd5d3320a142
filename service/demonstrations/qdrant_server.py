"""The demonstration store on a Qdrant server, shared by several processes.

The server searches a small label space exactly, and a large one through a graph (HNSW), in time
logarithmic in the number of demonstrations; a graph search occasionally misses a near one. The
server builds the graphs itself, in the background.

When the server is away, every method raises `DemonstrationsUnavailable`: the breaker in
`service/recognition/retrieval.py`, `GuardedRetrieval`, decides whether answers still try it, and
`service/recognition/pipeline.py` answers without demonstrations.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from json import JSONDecodeError
from typing import TypeVar
from uuid import UUID

import grpc
import httpx
from pydantic import ValidationError
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.context_headers import headers
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from service.conversation.dialogue import Demonstration
from service.demonstrations.encoder import DIMENSIONS, Vector, Vectors
from service.demonstrations.filters import (
    Condition,
    Filter,
    corrections,
    examples,
    other_editions,
    seen,
    within,
)
from service.demonstrations.index_parameters import (
    CANDIDATES_OF_A_BUILD,
    CANDIDATES_OF_A_SEARCH,
    EDGES,
    EXACT_UP_TO,
    FILTERED_BY,
    GRAPHED_BY,
    kilobytes,
)
from service.demonstrations.points import (
    EDITION,
    PageRequest,
    Row,
    correction_of,
    found_of,
    looked_up,
    match_of,
    point_id,
    points_of,
    query_vector,
    row_of_correction,
    texts_of,
    writes,
)
from service.demonstrations.store import (
    Correction,
    CorrectionMatch,
    IndexMismatch,
    Match,
    Page,
)
from service.errors import DemonstrationsUnavailable
from service.failures import Failures
from service.tracing import current_trace

log = logging.getLogger(__name__)

T = TypeVar("T")

_ENCODER = "encoder"  # a key of the collection's metadata, as EDITION is


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Timeouts and limits of requests to a server.

    Attributes:
        read_s: the most seconds for a search, a listing or a ping, including the connection.
        write_s: the most seconds for a write, or for creating the collection.
        connections: the most REST connections, all kept alive.
        exact_up_to: the most demonstrations of a label space without a graph. The server counts in
            each of its segments, of which it keeps about as many as it has cores.
    """

    read_s: float = 2.0
    write_s: float = 30.0
    connections: int = 32
    exact_up_to: int = EXACT_UP_TO


async def open_server(
    url: str,
    api_key: str | None,
    collection: str,
    encoder_identity: str,
    *,
    prefer_grpc: bool = False,
    grpc_port: int = 6334,
    limits: ServerLimits = ServerLimits(),
) -> "ServerStore":
    """Connect to a collection; create it if it does not exist.

    Args:
        url: of the REST interface, "https://qdrant.example:6333".
        prefer_grpc: use gRPC, on `grpc_port` of the same host.

    Raises:
        IndexMismatch: the collection was built with another encoder, or its metadata name none.
        DemonstrationsUnavailable: the server does not answer, or refuses.
    """
    client = AsyncQdrantClient(
        url=url,
        api_key=api_key,
        prefer_grpc=prefer_grpc,
        grpc_port=grpc_port,
        # The client takes whole seconds only; `_ask` enforces the exact timeouts.
        timeout=math.ceil(max(limits.read_s, limits.write_s)),
        # By default the client opens a new connection per request to a server on this machine.
        limits=httpx.Limits(
            max_connections=limits.connections, max_keepalive_connections=limits.connections
        ),
        check_compatibility=False,  # the check would run on a thread of its own
    )
    try:
        return await open_collection(client, collection, encoder_identity, limits)
    except DemonstrationsUnavailable as error:
        await client.close()
        address = httpx.URL(url).netloc.decode()  # without user name and password
        raise DemonstrationsUnavailable(f"{error} ({address}, {collection})") from error
    except BaseException:
        await client.close()
        raise


async def open_collection(
    client: AsyncQdrantClient, collection: str, encoder_identity: str, limits: ServerLimits
) -> "ServerStore":
    """Open a collection with a client that the store then owns; raises as `open_server` does."""
    store = ServerStore(client, collection, limits)
    await store.prepare(encoder_identity)
    return store


class ServerStore:
    """A `DemonstrationStore` in a collection of a Qdrant server; see `open_server`."""

    def __init__(self, client: AsyncQdrantClient, collection: str, limits: ServerLimits) -> None:
        self._client = client
        self._collection = collection
        self._limits = limits
        self._closed = False
        self._failures = Failures(log, "the demonstration server")

    async def prepare(self, encoder_identity: str) -> None:
        """Create the collection if there is none, and check that this encoder built it."""
        if not await self._read(self._client.collection_exists(self._collection)):
            try:
                await self._create(encoder_identity)
            except DemonstrationsUnavailable:  # another replica may have made it meanwhile
                if not await self._read(self._client.collection_exists(self._collection)):
                    raise
        config = await self._config()
        builder = (config.metadata or {}).get(_ENCODER)
        if builder != encoder_identity:
            raise IndexMismatch(
                f"collection {self._collection} was built with {builder or 'an unknown encoder'}, "
                f"but the encoder is {encoder_identity}; name another collection, or delete this "
                "one"
            )
        graphs = _graphs(self._limits.exact_up_to)
        current = config.hnsw_config
        # Only if it differs: an update makes the server optimize again.
        if current.model_copy(update=graphs.model_dump(exclude_none=True)) != current:
            await self._write(self._client.update_collection(self._collection, hnsw_config=graphs))
        # Before any point is written: graphs are built for indexed label spaces only.
        for field, index in _FIELDS.items():
            await self._write(
                self._client.create_payload_index(self._collection, field, index, wait=True)
            )

    async def add(
        self,
        demonstrations: Sequence[Demonstration],
        vectors: Vectors,
        edition: str | None = None,
        tenant: str | None = None,
    ) -> None:
        for rows in writes(demonstrations, vectors, edition, tenant):
            await self._upsert(rows)

    async def add_correction(self, correction: Correction, vector: Vector, tenant: str) -> None:
        await self._upsert([row_of_correction(correction, vector, tenant)])

    async def nearest(
        self, vector: Vector, label_space: str, k: int, tenant: str | None = None
    ) -> list[Match]:
        points = await self._nearest(vector, k, examples(label_space, tenant))
        return [match_of(point.payload, point.score) for point in points]

    async def corrections(
        self, vector: Vector, label_space: str, k: int, tenant: str
    ) -> list[CorrectionMatch]:
        points = await self._nearest(vector, k, corrections(label_space, tenant))
        return [correction_of(point.payload, point.score) for point in points]

    async def get(self, demonstration_id: str, tenant: str | None = None) -> Demonstration:
        payloads = await self._payloads(points_of(demonstration_id, tenant))
        return found_of(payloads, demonstration_id)

    async def texts(
        self, demonstration_ids: Collection[str], tenant: str | None = None
    ) -> dict[str, str]:
        texts: dict[str, str] = {}
        for points in looked_up(demonstration_ids, tenant):
            texts |= texts_of(await self._payloads(points))
        return texts

    async def delete(self, demonstration_id: str, tenant: str | None = None) -> None:
        point = point_id(demonstration_id, tenant)
        payloads = await self._payloads([point])
        # Even if there seems to be none: a lagging replica may say so, and the text would stay.
        selected = models.PointIdsList(points=[str(point)])
        await self._write(self._client.delete(self._collection, selected, wait=True))
        found_of(payloads, demonstration_id)

    async def count(self, label_space: str | None = None, *, tenant: str | None = None) -> int:
        return await self._count(within(label_space, tenant))

    async def count_corrections(self, label_space: str, tenant: str) -> int:
        return await self._count(corrections(label_space, tenant))

    async def edition(self) -> str | None:
        return ((await self._config()).metadata or {}).get(EDITION)

    async def finish_edition(self, edition: str) -> None:
        selected = models.FilterSelector(filter=_filter(other_editions(edition)))
        await self._write(self._client.delete(self._collection, selected, wait=True))
        await self._write(
            self._client.update_collection(self._collection, metadata={EDITION: edition})
        )

    async def ping(self) -> None:
        await self._read(self._client.get_collection(self._collection))

    async def close(self) -> None:
        self._closed = True
        await self._client.close()

    async def list(
        self,
        label_space: str | None = None,
        limit: int = 100,
        after: str | None = None,
        tenant: str | None = None,
    ) -> Page:
        request = PageRequest(limit, after)
        offset = request.scroll_offset
        records, _ = await self._read(
            self._client.scroll(
                self._collection,
                scroll_filter=_filter(seen(label_space, tenant)),
                limit=request.scroll_limit,
                offset=None if offset is None else str(offset),
                with_payload=True,
            )
        )
        return request.page([record.payload for record in records])

    async def _nearest(self, vector: Vector, k: int, among: Filter) -> Sequence[models.ScoredPoint]:
        response = await self._read(
            self._client.query_points(
                self._collection,
                query=query_vector(vector, k),
                query_filter=_filter(among),
                search_params=models.SearchParams(hnsw_ef=CANDIDATES_OF_A_SEARCH),
                limit=k,
                with_payload=True,
            )
        )
        return response.points

    async def _count(self, among: Filter) -> int:
        counted = self._client.count(self._collection, _filter(among), exact=True)
        return (await self._read(counted)).count

    async def _upsert(self, rows: Sequence[Row]) -> None:
        points = [
            models.PointStruct(id=str(row.point_id), vector=row.vector, payload=row.payload)
            for row in rows
        ]
        await self._write(self._client.upsert(self._collection, points, wait=True))

    async def _payloads(self, points: Sequence[UUID]) -> Sequence[models.Payload | None]:
        ids = [str(point) for point in points]
        records = await self._read(self._client.retrieve(self._collection, ids))
        return [record.payload for record in records]

    async def _create(self, encoder_identity: str) -> None:
        vectors = models.VectorParams(size=DIMENSIONS, distance=models.Distance.COSINE)
        await self._write(
            self._client.create_collection(
                self._collection,
                vectors_config=vectors,
                hnsw_config=_graphs(self._limits.exact_up_to),
                metadata={_ENCODER: encoder_identity},
            )
        )

    async def _config(self) -> models.CollectionConfig:
        return (await self._read(self._client.get_collection(self._collection))).config

    async def _read(self, call: Awaitable[T]) -> T:
        return await self._ask(call, self._limits.read_s)

    async def _write(self, call: Awaitable[T]) -> T:
        return await self._ask(call, self._limits.write_s)

    async def _ask(self, call: Awaitable[T], timeout_s: float) -> T:
        """The response of the server. Errors name no address: clients of the service see them."""
        trace = current_trace()
        try:
            async with asyncio.timeout(timeout_s):
                with nullcontext() if trace is None else headers(dict(trace.headers())):
                    answer = await call
        except TimeoutError as error:
            refusal = f"the demonstration server did not answer in {timeout_s:g} s"
            raise self._unavailable(refusal, error) from error
        except UnexpectedResponse as error:
            refusal = f"the demonstration server answered with status {error.status_code}"
            raise self._unavailable(refusal, error) from error
        except _FROM_OUTSIDE as error:
            raise self._unavailable("the demonstration server does not answer", error) from error
        except Exception as error:
            if self._closed:  # a closed client may raise anything
                raise DemonstrationsUnavailable("the demonstration index is closed") from error
            raise
        self._failures.worked()
        return answer

    def _unavailable(self, message: str, error: Exception) -> DemonstrationsUnavailable:
        self._failures.failed(error)
        return DemonstrationsUnavailable(message)


# What the client raises if the server or the connection is at fault: errors of its own, of its HTTP
# and gRPC libraries, of the connection, and of malformed responses.
_FROM_OUTSIDE = (
    ApiException,
    QdrantException,
    httpx.HTTPError,
    grpc.RpcError,
    ValidationError,
    JSONDecodeError,
    OSError,
)


_FIELDS = {
    GRAPHED_BY: models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True),
    **dict.fromkeys(
        FILTERED_BY,
        models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, enable_hnsw=False),
    ),
}


def _graphs(exact_up_to: int) -> models.HnswConfigDiff:
    return models.HnswConfigDiff(
        m=0,  # of a graph for all label spaces
        payload_m=EDGES,
        ef_construct=CANDIDATES_OF_A_BUILD,
        full_scan_threshold=kilobytes(exact_up_to),
    )


def _filter(among: Filter) -> models.Filter:
    return models.Filter(
        must=[_condition(each) for each in among.all_of] or None,
        should=[_condition(each) for each in among.any_of] or None,
        must_not=[_condition(each) for each in among.none_of] or None,
    )


def _condition(condition: Condition) -> models.FieldCondition | models.IsEmptyCondition:
    if condition.value is None:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=condition.field))
    return models.FieldCondition(
        key=condition.field, match=models.MatchValue(value=condition.value)
    )
