"""Who waits for what happens to a dialogue, and how they are told.

Those who wait are woken, and read for themselves what happened: nothing piles up for one who is
slow. What this process writes wakes them at once. What other processes write is found by asking for
the versions of all dialogues that somebody waits for, in one statement four times a second, while
there is anybody. PostgreSQL's NOTIFY would tell sooner, but makes commits wait for each other.
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
from service.sessions.schema import dialogues
from service.sessions.versions import Version

log = logging.getLogger(__name__)

POLL_S = 0.25
# Names in one statement.
_PORTION = 500

Name = tuple[str, str]
"""A dialogue's tenant and its id."""

Wake = Callable[[], None]


class Followed:
    """The dialogues of one database that somebody in this process waits for."""

    def __init__(self, database: Database, poll_s: float = POLL_S) -> None:
        self._database = database
        self._poll_s = poll_s
        self._wakes: dict[Name, list[Wake]] = {}
        self._seen: dict[Name, Version | None] = {}
        self._asking: asyncio.Task[None] | None = None

    @contextmanager
    def follow(self, tenant: str, dialogue_id: str, wake: Wake) -> Iterator[None]:
        """Have `wake` called whenever something has happened to a dialogue, for the block's time.

        It may be called for nothing. Whoever reads after it was called misses nothing.
        """
        name = (tenant, dialogue_id)
        self._wakes.setdefault(name, []).append(wake)
        if self._asking is None:
            # Not in the context of the request that happens to be the first.
            self._asking = asyncio.get_running_loop().create_task(self._ask(), context=Context())
        try:
            yield
        finally:
            self._wakes[name].remove(wake)
            if not self._wakes[name]:
                del self._wakes[name]
                self._seen.pop(name, None)
            if not self._wakes and self._asking is not None:
                self._asking.cancel()
                self._asking = None

    def tell(self, tenant: str, dialogue_id: str) -> None:
        """Something has happened to a dialogue."""
        for wake in self._wakes.get((tenant, dialogue_id), ()):
            wake()

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            with suppress(asyncio.CancelledError):
                await self._asking
            self._asking = None

    async def _ask(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            names = iter(list(self._wakes))
            try:
                while portion := list(islice(names, _PORTION)):
                    self._compare(portion, await self._versions(portion))
            except DatabaseUnavailable as error:
                log.warning("dialogues are followed later: %s", error)
            except Exception:
                log.exception("dialogues could not be followed; it is tried again")

    def _compare(self, names: Sequence[Name], versions: dict[Name, Version]) -> None:
        for name in names:
            version = versions.get(name)
            if name in self._wakes and (name not in self._seen or self._seen[name] != version):
                self._seen[name] = version
                self.tell(*name)

    async def _versions(self, names: Sequence[Name]) -> dict[Name, Version]:
        columns = (dialogues.c.tenant, dialogues.c.id, dialogues.c.generation, dialogues.c.version)
        is_one = tuple_(dialogues.c.tenant, dialogues.c.id).in_(names)
        asked = select(*columns).where(is_one, IS_WHOLE)
        rows = await self._database.fetch(asked)
        return {
            (tenant, dialogue_id): Version(generation, number)
            for tenant, dialogue_id, generation, number in rows
        }
