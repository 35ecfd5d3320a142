"""An open embedded index: its folder's lock and card, and Qdrant's library.

Everything here blocks, and is called on the index's thread.
"""

import contextlib
import fcntl
import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import qdrant_edge as qdrant

from service.demonstrations.filters import Condition, Filter, other_editions, within
from service.demonstrations.index_parameters import CANDIDATES_OF_A_SEARCH
from service.demonstrations.points import PageRequest, Row
from service.demonstrations.qdrant_edge.card import Card, new_path, read_card, write_card
from service.demonstrations.qdrant_edge.disk import check_room, sync, sync_files
from service.demonstrations.qdrant_edge.shard import (
    FLUSH_AFTER,
    call_qdrant,
    open_shard,
    remove,
    remove_others,
    rewrite,
)
from service.demonstrations.store import Page
from service.errors import DemonstrationsUnavailable
from service.failures import cause_of

log = logging.getLogger(__name__)

STILL_IN_FILES = "deleted demonstrations are still in the index's files: %s"

_EXACT = qdrant.SearchParams(exact=True)

# Graphs hold one byte a number. The best 4 k are rescored by their full vectors.
_BY_GRAPH = qdrant.SearchParams(
    hnsw_ef=CANDIDATES_OF_A_SEARCH,
    quantization=qdrant.QuantizationSearchParams(rescore=True, oversampling=4.0),
)


@dataclass(slots=True)
class Missed:
    """The writes since a replacement of the shard was begun.

    Attributes:
        deletions: whether the replacement's files may hold rows that these delete or replace.
    """

    operations: list[qdrant.UpdateOperation] = field(default_factory=list)
    deletions: bool = False


def open_index(folder: Path, encoder_identity: str, exact_up_to: int) -> "Index":
    """Open the index in a folder; create index and folder if they do not exist.

    Raises:
        IndexMismatch, DemonstrationsUnavailable: as `open_edge`.
    """
    try:
        # Utterances must not be readable by other users of this machine.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise DemonstrationsUnavailable(f"cannot use {folder}: {error.strerror}") from error
    try:
        # Qdrant locks the shard too, but has no error type for it, and creates the files first.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        card = read_card(folder, encoder_identity)
        shard = open_shard(folder, card, exact_up_to)
    except BlockingIOError as error:
        os.close(lock)
        raise DemonstrationsUnavailable(
            f"{folder} is open in another process; only one process at a time can use an embedded "
            "index"
        ) from error
    except (DemonstrationsUnavailable, OSError) as error:
        os.close(lock)
        cause = error.__cause__ or error
        raise DemonstrationsUnavailable(f"cannot open the index in {folder}: {cause}") from error
    except BaseException:
        os.close(lock)
        raise
    return Index(folder, card, shard, exact_up_to, lock)


class Index:
    """An index that this process alone may use; see `open_index`.

    Methods raise DemonstrationsUnavailable if the library fails, and OSError if the disk does.

    Attributes:
        exact_up_to: the most rows of a label space without a graph.
        card: as it is in the folder.
        missed: where writes are noted while a replacement of the shard is made; None otherwise.
    """

    def __init__(
        self, folder: Path, card: Card, shard: qdrant.EdgeShard, exact_up_to: int, lock: int
    ) -> None:
        self.folder = folder
        self.exact_up_to = exact_up_to
        self.card = card
        self.missed: Missed | None = None
        self._shard = shard
        self._lock = lock
        self._unflushed = 0  # rows written since the last flush

    @property
    def path(self) -> Path:
        """The folder of the shard."""
        return self.folder / self.card.shard

    def is_large(self) -> bool:
        """Whether it needs graphs."""
        return bool(call_qdrant(self._shard.info).points_count > self.exact_up_to)

    def count(self, among: Filter, *, exact: bool = True) -> int:
        request = qdrant.CountRequest(exact=exact, filter=qdrant_filter(among))
        count: int = call_qdrant(self._shard.count, request)
        return count

    def page(self, request: PageRequest, among: Filter) -> Page:
        scroll = qdrant.ScrollRequest(
            offset=request.scroll_offset,
            limit=request.scroll_limit,
            filter=qdrant_filter(among),
            with_payload=True,
            with_vector=False,
        )
        records: Sequence[qdrant.Record] = call_qdrant(self._shard.scroll, scroll)[0]
        return request.page([record.payload for record in records])

    def nearest(
        self, vector: list[float], label_space: str, k: int, among: Filter
    ) -> Sequence[qdrant.ScoredPoint]:
        """The k points nearest to a vector, best first; `among` matches only the label space's."""
        # From the payload index: 0.02 ms whatever the number.
        size = self.count(within(label_space), exact=False)
        request = qdrant.QueryRequest(
            limit=k,
            query=qdrant.Query.Nearest(vector),
            filter=qdrant_filter(among),
            params=_EXACT if size <= self.exact_up_to else _BY_GRAPH,
            with_payload=True,
        )
        points: Sequence[qdrant.ScoredPoint] = call_qdrant(self._shard.query, request)
        return points

    def payloads(self, points: Sequence[uuid.UUID]) -> list[Mapping[str, Any] | None]:
        """The payloads of those points that exist, in any order."""
        return [record.payload for record in self._records(points)]

    def write(self, rows: Sequence[Row]) -> None:
        written = {row.point_id: row.payload for row in rows}
        replaces = any(
            record.payload != written[uuid.UUID(str(record.id))]
            for record in self._records([*written])
        )
        points = [qdrant.Point(row.point_id, row.vector, row.payload) for row in rows]
        self._update(qdrant.UpdateOperation.upsert_points(points), deletes=replaces)
        self._unflushed += len(rows)
        if self._unflushed >= FLUSH_AFTER:
            self.flush()

    def delete(self, point: uuid.UUID) -> bool:
        """Delete a point; return whether there was one."""
        if not self._records([point]):
            return False
        self._update(qdrant.UpdateOperation.delete_points([point]), deletes=True)
        return True

    def drop_other_editions(self, edition: str) -> None:
        others = other_editions(edition)
        operation = qdrant.UpdateOperation.delete_points_by_filter(qdrant_filter(others))
        self._update(operation, deletes=self.count(others) > 0)

    def note_edition(self, edition: str) -> None:
        self._note(replace(self.card, edition=edition))

    def flush(self) -> None:
        call_qdrant(self._shard.flush)
        self._unflushed = 0

    def rewrite(self, new: Path) -> Iterator[None]:
        """Copy the rows to a new shard, some at each step; see `shard.rewrite`."""
        return rewrite(self._shard, new, self.exact_up_to)

    def change_over(self, copy: Path, missed: Missed) -> None:
        """Replace the shard by a copy, in which `missed` is missing."""
        old, old_path = self._shard, self.path
        check_room(self.folder)
        new = call_qdrant(qdrant.EdgeShard.load, str(copy))
        try:
            for operation in missed.operations:
                call_qdrant(new.update, operation)
            call_qdrant(new.flush)
            # Copied files hold no earlier deletions, or they would have been rewritten.
            self._note(replace(self.card, shard=copy.name, stale=missed.deletions))
        except BaseException:
            call_qdrant(new.close)
            raise
        self._shard = new
        self._unflushed = 0
        call_qdrant(old.close)
        remove(old_path)

    def tidy_up(self) -> None:
        """Clean the files of deleted rows, and release their disk space."""
        if self.card.stale:
            self._rewrite_now()
        call_qdrant(self._shard.optimize)

    def close_shard(self) -> None:
        """Close the shard's files for others; nothing but `load_shard` may follow."""
        self.flush()
        call_qdrant(self._shard.close)

    def load_shard(self) -> None:
        self._shard = call_qdrant(qdrant.EdgeShard.load, str(self.path))

    def close(self) -> None:
        """Close the index and free its folder, whatever fails."""
        try:
            check_room(self.folder)
            if self.card.stale and not self.is_large():
                self._rewrite_now()
            self.close_shard()
            remove_others(self.folder, self.card)
        except (DemonstrationsUnavailable, OSError) as error:
            # Nothing is lost: the next `load` replays the log.
            log.warning("the latest changes remain in the index's log: %s", cause_of(error))
        finally:
            os.close(self._lock)

    def _records(self, points: Sequence[uuid.UUID]) -> Sequence[qdrant.Record]:
        records: Sequence[qdrant.Record] = call_qdrant(
            self._shard.retrieve, [*points], with_payload=True, with_vector=False
        )
        return records

    def _update(self, operation: qdrant.UpdateOperation, *, deletes: bool) -> None:
        """Apply a change and sync it to the disk, in the log that the next `load` replays.

        Args:
            deletes: whether it deletes or replaces rows: the card records that first.
        """
        check_room(self.folder)
        missed = self.missed
        if deletes:
            if not self.card.stale:
                self._note(replace(self.card, stale=True))
            if missed is not None:
                missed.deletions = True
        call_qdrant(self._shard.update, operation)
        if missed is not None:
            missed.operations.append(operation)
        for path in (self.path / "wal").iterdir():
            # The library creates and renames the log's next file in the background.
            with contextlib.suppress(FileNotFoundError):
                sync(path)

    def _note(self, card: Card) -> None:
        write_card(self.folder, card)
        self.card = card

    def _rewrite_now(self) -> None:
        """Rewrite the shard in one go; on failure it stays as it is."""
        new = new_path(self.folder)
        try:
            for _ in self.rewrite(new):
                pass
            sync_files(new)
            self.change_over(new, Missed())
        except (DemonstrationsUnavailable, OSError) as error:
            log.warning(STILL_IN_FILES, cause_of(error))
            if self.path != new:
                remove(new)


def qdrant_filter(among: Filter) -> qdrant.Filter:
    """A filter as Qdrant's library takes it."""
    return qdrant.Filter(
        must=[_condition(each) for each in among.all_of] or None,
        should=[_condition(each) for each in among.any_of] or None,
        must_not=[_condition(each) for each in among.none_of] or None,
    )


def _condition(condition: Condition) -> qdrant.FieldCondition | qdrant.IsEmptyCondition:
    if condition.value is None:
        return qdrant.IsEmptyCondition(condition.field)
    return qdrant.FieldCondition(condition.field, match=qdrant.MatchValue(condition.value))
