"""The worker that scores stored jobs, one portion at a time."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from service.concurrency import first_failure
from service.errors import ServiceError, Unavailable
from service.sessions.jobs import Jobs, Work

log = logging.getLogger(__name__)

LEASE_S = 30.0
# The pause before the next look for work, and after a required part was unavailable.
PAUSE_S = 1.0

Score = Callable[[str, str, dict[str, Any]], Coroutine[Any, Any, dict[str, Any]]]
"""Scores a stored dialogue, given tenant and label space; the result may have an `error`.

Raises Unavailable if a required part is unavailable.
"""


@dataclass(frozen=True, slots=True)
class JobRunner:
    """A worker for stored jobs; each process on the database has one, and they share the jobs."""

    jobs: Jobs
    score: Score
    lease_s: float = LEASE_S
    pause_s: float = PAUSE_S

    async def run(self) -> None:
        """Work for ever, whenever there is work; no failure ends it."""
        while True:
            try:
                if await self.work():
                    continue
            except ServiceError as error:
                log.warning("jobs will be retried: %s", error)
            except Exception:
                log.exception("a portion of a job failed and will be retried")
            await asyncio.sleep(self.pause_s)

    async def work(self) -> bool:
        """Score one portion; False if there is none.

        Raises:
            Unavailable: a required part is unavailable; the portion is released.
        """
        work = await self.jobs.claim(self.lease_s)
        if work is None:
            return False
        try:
            await self._do(work)
        except (ServiceError, asyncio.CancelledError):
            with suppress(ServiceError):
                await self.jobs.release(work)
            raise  # an unexpected error keeps the lease, so that other portions go first
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
        failed = sum("error" in result for result in results)
        options = orjson.OPT_APPEND_NEWLINE
        lines = b"".join(orjson.dumps(result, option=options) for result in results)
        await self.jobs.finish(work, lines.decode(), len(results), failed)

    async def _scored(self, work: Work) -> list[dict[str, Any]]:
        dialogues = orjson.loads(work.dialogues)
        with first_failure(rather=Unavailable):
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self.score(work.tenant, work.label_space, dialogue))
                    for dialogue in dialogues
                ]
        return [task.result() for task in tasks]
