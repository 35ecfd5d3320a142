"""The worker that scores stored jobs, one portion at a time."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from service.errors import ServiceError, Unavailable
from service.sessions.jobs import Jobs, Work
from service.side_by_side import first_failure

log = logging.getLogger(__name__)

LEASE_S = 30.0
# Between two looks for work, and after a part that answers need was away.
PAUSE_S = 1.0

Score = Callable[[str, str, dict[str, Any]], Coroutine[Any, Any, dict[str, Any]]]
"""From tenant, label space and a stored dialogue to its result, which has an `error` or not.

Raises Unavailable where nobody can answer now.
"""


@dataclass(frozen=True, slots=True)
class JobRunner:
    """One of those that share the work; each process on the database has one."""

    jobs: Jobs
    score: Score
    lease_s: float = LEASE_S
    pause_s: float = PAUSE_S

    async def run(self) -> None:
        """Work whenever there is something to do; never returns, and no failure ends it."""
        while True:
            try:
                if await self.work():
                    continue
            except ServiceError as error:
                log.warning("jobs go on later: %s", error)
            except Exception:
                log.exception("a part of a job failed; it is tried again")
            await asyncio.sleep(self.pause_s)

    async def work(self) -> bool:
        """Score one portion; False: there is none.

        Raises:
            Unavailable: a part does not answer; the portion is left to whoever is next.
        """
        work = await self.jobs.claim(self.lease_s)
        if work is None:
            return False
        try:
            await self._do(work)
        except (ServiceError, asyncio.CancelledError):
            with suppress(ServiceError):
                await self.jobs.release(work)
            raise  # what nobody foresaw keeps the lease: other portions go first for a while
        return True

    async def _do(self, work: Work) -> None:
        doing = asyncio.create_task(self._scored(work))
        try:
            while not (await asyncio.wait({doing}, timeout=self.lease_s / 3))[0]:
                if not await self.jobs.keep(work, self.lease_s):
                    return
            results = doing.result()
        finally:
            doing.cancel()
        failed = sum("error" in each for each in results)
        lines = b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in results)
        await self.jobs.finish(work, lines.decode(), len(results), failed)

    async def _scored(self, work: Work) -> list[dict[str, Any]]:
        given = orjson.loads(work.dialogues)
        with first_failure(rather=Unavailable):
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self.score(work.tenant, work.label_space, each))
                    for each in given
                ]
        return [task.result() for task in tasks]
