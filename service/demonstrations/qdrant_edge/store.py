"""The embedded store and its opening.

A small label space is searched exactly, and a large one through a graph (HNSW), in time logarithmic
in the number of demonstrations; a graph search occasionally misses a near one. `renewal.py` says
when new demonstrations come into the graphs, and when deleted ones leave the files.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from service.conversation.dialogue import Demonstration
from service.demonstrations.encoder import Vector, Vectors
from service.demonstrations.filters import corrections, examples, seen, within
from service.demonstrations.index_parameters import EXACT_UP_TO
from service.demonstrations.points import (
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
from service.demonstrations.qdrant_edge.index import Index, open_index
from service.demonstrations.qdrant_edge.renewal import GATHERED_S, Renewal
from service.demonstrations.qdrant_edge.thread import IndexThread
from service.demonstrations.store import Correction, CorrectionMatch, Match, Page
from service.errors import DemonstrationNotFound


async def open_edge(
    folder: Path,
    encoder_identity: str,
    exact_up_to: int = EXACT_UP_TO,
    *,
    gathered_s: float = GATHERED_S,
) -> "EdgeStore":
    """Open the index in a folder; create index and folder if they do not exist.

    For a large index, demonstrations that are in no graph are put into graphs first.

    Args:
        exact_up_to: the most demonstrations of a label space without a graph, and the most new
            demonstrations outside of the graphs.
        gathered_s: seconds that deletions are gathered before the files are rewritten.

    Raises:
        IndexMismatch: another encoder built the index, or its `index.json` is missing or broken.
        DemonstrationsUnavailable: another process has it open, or it cannot be read or created.
    """
    thread = IndexThread()
    index = await thread.begin(open_index, folder, encoder_identity, exact_up_to)
    renewal = Renewal(index, thread, gathered_s)
    store = EdgeStore(index, thread, renewal)
    try:
        await renewal.catch_up()
    except BaseException:
        await store.close()
        raise
    return store


class EdgeStore:
    """A `DemonstrationStore` in a folder that this process alone may use; see `open_edge`."""

    def __init__(self, index: Index, thread: IndexThread, renewal: Renewal) -> None:
        self._index = index
        self._thread = thread
        self._renewal = renewal

    async def add(
        self,
        demonstrations: Sequence[Demonstration],
        vectors: Vectors,
        edition: str | None = None,
        tenant: str | None = None,
    ) -> None:
        await self._add(writes(demonstrations, vectors, edition, tenant))
        if edition is None:
            self._renewal.added(len(demonstrations))
        if len(demonstrations) > self._index.exact_up_to:
            await self._renewal.renewed()

    async def add_correction(self, correction: Correction, vector: Vector, tenant: str) -> None:
        await self._add([[row_of_correction(correction, vector, tenant)]])
        self._renewal.added(1)

    async def nearest(
        self, vector: Vector, label_space: str, k: int, tenant: str | None = None
    ) -> list[Match]:
        numbers, among = query_vector(vector, k), examples(label_space, tenant)
        points = await self._thread.run(self._index.nearest, numbers, label_space, k, among)
        return [match_of(point.payload, point.score) for point in points]

    async def corrections(
        self, vector: Vector, label_space: str, k: int, tenant: str
    ) -> list[CorrectionMatch]:
        numbers, among = query_vector(vector, k), corrections(label_space, tenant)
        points = await self._thread.run(self._index.nearest, numbers, label_space, k, among)
        return [correction_of(point.payload, point.score) for point in points]

    async def get(self, demonstration_id: str, tenant: str | None = None) -> Demonstration:
        points = points_of(demonstration_id, tenant)
        return found_of(await self._thread.run(self._index.payloads, points), demonstration_id)

    async def texts(
        self, demonstration_ids: Collection[str], tenant: str | None = None
    ) -> dict[str, str]:
        texts: dict[str, str] = {}
        for points in looked_up(demonstration_ids, tenant):
            texts |= texts_of(await self._thread.run(self._index.payloads, points))
        return texts

    async def delete(self, demonstration_id: str, tenant: str | None = None) -> None:
        async with self._renewal.writing:
            existed = await self._thread.run(self._index.delete, point_id(demonstration_id, tenant))
        self._renewal.clean_soon()
        if not existed:
            raise DemonstrationNotFound(f"there is no demonstration {demonstration_id!r}")

    async def count(self, label_space: str | None = None, *, tenant: str | None = None) -> int:
        return await self._thread.run(self._index.count, within(label_space, tenant))

    async def count_corrections(self, label_space: str, tenant: str) -> int:
        return await self._thread.run(self._index.count, corrections(label_space, tenant))

    async def edition(self) -> str | None:
        return self._index.card.edition

    async def finish_edition(self, edition: str) -> None:
        async with self._renewal.writing:
            await self._thread.run(self._index.drop_other_editions, edition)
        self._renewal.clean_soon()
        if await self._thread.run(self._index.is_large):
            await self._renewal.renew()
        await self._thread.run(self._index.note_edition, edition)

    async def ping(self) -> None:
        await self._thread.run(self._index.is_large)

    async def close(self) -> None:
        if self._thread.closed:
            return
        self._thread.closed = True
        await self._renewal.stop()
        await self._thread.end(self._index.close)

    async def list(
        self,
        label_space: str | None = None,
        limit: int = 100,
        after: str | None = None,
        tenant: str | None = None,
    ) -> Page:
        request, among = PageRequest(limit, after), seen(label_space, tenant)
        return await self._thread.run(self._index.page, request, among)

    async def _add(self, portions: Iterable[Sequence[Row]]) -> None:
        # One call on the thread per batch, so that queries run in between.
        for rows in portions:
            async with self._renewal.writing:
                await self._thread.run(self._index.write, rows)
        self._renewal.clean_soon()
