"""Background work: erase what has expired, deliver corrections that could not be delivered.

Every process on a database does it; they do not interfere with each other.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from service.dialogues.corrections import Corrector
from service.dialogues.webhooks import WebhookKeeping
from service.errors import ServiceError
from service.sessions.erasure import BEGUN
from service.sessions.jobs import Jobs
from service.sessions.store import SessionStore
from service.settings import Sessions

log = logging.getLogger(__name__)

# Erased per transaction, during which other writers wait on SQLite; fewer if dialogues are long.
_DIALOGUES = 20
_ANSWERS = 200
_JOBS = 5


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """Keeps the database and the demonstrations as configured.

    Attributes:
        receiving_s: seconds in which a job must be received; one that is not by then is abandoned,
            as its process has stopped.
    """

    sessions: SessionStore
    jobs: Jobs
    corrector: Corrector
    settings: Sessions
    webhooks: WebhookKeeping
    receiving_s: float = 600.0

    async def run(self) -> None:
        """Repeat `do` for ever, starting at once; no failure ends it."""
        while True:
            try:
                await self.do()
            except ServiceError as error:
                log.warning("housekeeping will be retried: %s", error)
            except Exception:
                log.exception("housekeeping failed and will be retried")
            await asyncio.sleep(self.settings.housekeeping_interval_s)

    async def do(self) -> None:
        """Do everything that is due.

        That begins with what an earlier process may have left undone.

        Raises:
            DatabaseUnavailable: some of it is not done.
        """
        self.sessions.forget_idle()
        await self.sessions.empty_log()
        await self.corrector.deliver_all()
        now = datetime.now(UTC)
        dialogue_retention_s = self.settings.dialogue_retention_s
        await self._erase_dialogues(
            BEGUN if dialogue_retention_s is None else now - timedelta(seconds=dialogue_retention_s)
        )
        before = now - timedelta(seconds=self.settings.idempotency_retention_s)
        while await self.sessions.answers.erase_before(before, _ANSWERS) == _ANSWERS:
            pass
        ended = now - timedelta(seconds=self.settings.job_retention_s)
        begun = now - timedelta(seconds=self.receiving_s)
        while await self.jobs.erase_before(ended, begun, _JOBS) == _JOBS:
            pass
        await self.webhooks.do(now)

    async def _erase_dialogues(self, before: datetime) -> None:
        while True:
            erased = await self.sessions.erase_before(before, _DIALOGUES)
            for dialogue in erased:
                await self.corrector.deliver(dialogue.pending)
            if not erased:
                return
