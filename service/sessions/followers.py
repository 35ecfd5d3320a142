"""Wakes those who follow a dialogue whenever it is written to.

A follower is woken, and reads for itself what happened: nothing piles up for a slow one. Writes of
this process wake at once. Writes of other processes are found by polling the versions of all
followed dialogues, in one statement four times a second, while there is a follower. PostgreSQL's
NOTIFY would be quicker, but makes commits wait for each other.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context
from itertools import islice

from sqlalchemy import select, tuple_

from service.errors import DatabaseUnavailable
from service.sessions.database import Database
from service.sessions.queries import IS_WHOLE
from service.sessions.records import Name, Version
from service.sessions.schema import dialogues

log = logging.getLogger(__name__)

POLL_S = 0.25
# Names in one statement.
_PORTION = 500

Wake = Callable[[], None]


class Followers:
    """The followers, in this process, of the dialogues of one database."""

    def __init__(self, database: Database, poll_s: float = POLL_S) -> None:
        self._database = database
        self._poll_s = poll_s
        self._wakes: dict[Name, list[Wake]] = {}
        self._seen: dict[Name, Version | None] = {}
        self._polling: asyncio.Task[None] | None = None

    @contextmanager
    def follow(self, tenant: str, dialogue_id: str, wake: Wake) -> Iterator[None]:
        """Call `wake` after every write to a dialogue, for the block's time.

        It may be called without one. A follower that reads after each call misses nothing.
        """
        name = (tenant, dialogue_id)
        self._wakes.setdefault(name, []).append(wake)
        if self._polling is None:
            # Not in the context of the request that happens to be the first.
            self._polling = asyncio.get_running_loop().create_task(self._poll(), context=Context())
        try:
            yield
        finally:
            self._wakes[name].remove(wake)
            if not self._wakes[name]:
                del self._wakes[name]
                self._seen.pop(name, None)
            if not self._wakes and self._polling is not None:
                self._polling.cancel()
                self._polling = None

    def notify(self, tenant: str, dialogue_id: str) -> None:
        """Wake the followers of a dialogue."""
        for wake in self._wakes.get((tenant, dialogue_id), ()):
            wake()

    async def close(self) -> None:
        """Stop polling."""
        if self._polling is not None:
            self._polling.cancel()
            with suppress(asyncio.CancelledError):
                await self._polling
            self._polling = None

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            names = iter(list(self._wakes))
            try:
                while portion := list(islice(names, _PORTION)):
                    self._compare(portion, await self._versions(portion))
            except DatabaseUnavailable as error:
                log.warning(
                    "followed dialogues were not polled; polling will be retried: %s", error
                )
            except Exception:
                log.exception("polling the followed dialogues failed and will be retried")

    def _compare(self, names: Sequence[Name], versions: dict[Name, Version]) -> None:
        for name in names:
            version = versions.get(name)
            if name in self._wakes and (name not in self._seen or self._seen[name] != version):
                self._seen[name] = version
                self.notify(*name)

    async def _versions(self, names: Sequence[Name]) -> dict[Name, Version]:
        columns = (dialogues.c.tenant, dialogues.c.id, dialogues.c.generation, dialogues.c.version)
        is_one = tuple_(dialogues.c.tenant, dialogues.c.id).in_(names)
        rows = await self._database.fetch(select(*columns).where(is_one, IS_WHOLE))
        return {(row.tenant, row.id): Version(row.generation, row.version) for row in rows}
