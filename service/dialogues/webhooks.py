"""The delivery of webhooks: each at least once, each attempt under the same id."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from service.concurrency import together
from service.errors import ServiceError
from service.rules.posting import ATTEMPT_S, Attempt, Post
from service.rules.rule_files import Endpoint
from service.rules.rulebook import Rulebook
from service.sessions.webhooks import NO_ENDPOINT, ClaimedWebhook, WebhookResult, Webhooks
from service.settings import Rules

log = logging.getLogger(__name__)

# After it another process may try: an attempt is over by then, and its outcome stored.
LEASE_S = 2 * ATTEMPT_S
# The pause before the next look for webhooks that others have stored, or that are due again.
PAUSE_S = 1.0
# Webhooks of one endpoint that a process sends at once. An endpoint that is slow delays no other.
AT_ONCE = 4
# The mean of the first pause between two attempts, doubled for each one up to the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 3600.0

# Erased per transaction, during which other writers wait on SQLite.
_ERASED_AT_ONCE = 500

RETRIED = "retried"
"""The outcome of an attempt that another one follows."""
_GONE = 410


def pause_after(attempts: int, chance: Callable[[float, float], float] = random.uniform) -> float:
    """The seconds until the next attempt.

    Args:
        attempts: that have failed, from 1.
        chance: draws a number between two.
    """
    mean = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 30))
    return chance(0.5 * mean, min(LONGEST_PAUSE_S, 1.5 * mean))


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class WebhookSender:
    """Delivers webhooks; each process on the database has one, and they share the webhooks.

    Attributes:
        count: called with the outcome of each attempt: a `WebhookResult`, or `RETRIED`.
        give_up_after_s: seconds after which a webhook that cannot be delivered is given up.
    """

    webhooks: Webhooks
    rulebook: Rulebook
    post: Post
    count: Callable[[str], None]
    give_up_after_s: float
    lease_s: float = LEASE_S
    now: Callable[[], datetime] = _now
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _sending: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)

    def wake(self) -> None:
        """Look for webhooks at once."""
        self._woken.set()

    async def run(self) -> None:
        """Deliver for ever, whenever there is something to deliver; no failure ends it."""
        try:
            while True:
                self._woken.clear()
                await _unless_it_fails(self.look())
                with suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE_S):
                        await self._woken.wait()
        finally:
            for task in self._sending.values():
                task.cancel()
            await asyncio.gather(*self._sending.values(), return_exceptions=True)

    async def look(self) -> None:
        """Begin to send to each endpoint for which there are webhooks.

        Raises:
            DatabaseUnavailable: nothing was begun.
        """
        for name in await self.webhooks.due_endpoints(self.now()):
            running = self._sending.get(name)
            if running is None or running.done():
                self._sending[name] = asyncio.create_task(_unless_it_fails(self.send_all(name)))

    async def send_all(self, name: str) -> None:
        """Make an attempt for each webhook of an endpoint that is due, if there is the endpoint.

        Raises:
            DatabaseUnavailable: some of the outcomes may not be stored.
        """
        # It may change in between.
        while (endpoint := self.rulebook.rules.endpoints.get(name)) is not None:
            claimed = await self.webhooks.claim(name, self.now(), self.lease_s, AT_ONCE)
            if not claimed:
                return
            await together(*(self._send(endpoint, webhook) for webhook in claimed))

    async def _send(self, endpoint: Endpoint, webhook: ClaimedWebhook) -> None:
        try:
            attempt = await self.post(endpoint, webhook.id, webhook.body.encode())
        except asyncio.CancelledError:
            with suppress(ServiceError):
                await self.webhooks.release(webhook, self.now())
            raise
        await self._store(webhook, attempt)

    async def _store(self, webhook: ClaimedWebhook, attempt: Attempt) -> None:
        now = self.now()
        if attempt.failure is None:
            result = WebhookResult.DELIVERED
        elif attempt.status == _GONE:
            result = WebhookResult.GONE
        else:
            last = webhook.created_at + timedelta(seconds=self.give_up_after_s)
            if now < last:
                pause_s = pause_after(webhook.attempts + 1)
                asked_s = min(attempt.retry_after_s or 0.0, LONGEST_PAUSE_S)
                due_at = min(now + timedelta(seconds=max(pause_s, asked_s)), last)
                await self.webhooks.retry(webhook, due_at, attempt.failure)
                self.count(RETRIED)
                return
            result = WebhookResult.GAVE_UP
        await self.webhooks.finish(webhook, now, result, attempt.failure)
        self.count(result)
        if attempt.failure is not None:
            _log_undelivered(webhook, result, attempt.failure)


@dataclass(frozen=True, slots=True)
class WebhookKeeping:
    """Gives up the webhooks of endpoints that are no more, and erases old ones.

    Attributes:
        rulebook: with the endpoints that there are; None: there are none.
        count: as the sender's.
    """

    webhooks: Webhooks
    rulebook: Rulebook | None
    count: Callable[[str], None]
    settings: Rules

    async def do(self, now: datetime) -> None:
        """Do everything that is due.

        Raises:
            DatabaseUnavailable: some of it is not done.
        """
        endpoints = () if self.rulebook is None else tuple(self.rulebook.rules.endpoints)
        # Later than a sender, which may know the endpoint, gives up.
        before = now - timedelta(seconds=self.settings.give_up_after_s + LONGEST_PAUSE_S)
        for webhook in await self.webhooks.give_up(now, before, endpoints):
            self.count(WebhookResult.GAVE_UP)
            _log_undelivered(webhook, WebhookResult.GAVE_UP, NO_ENDPOINT)
        kept = now - timedelta(seconds=self.settings.webhook_retention_s)
        while await self.webhooks.erase_before(kept, _ERASED_AT_ONCE) == _ERASED_AT_ONCE:
            pass


def _log_undelivered(webhook: ClaimedWebhook, result: WebhookResult, failure: str) -> None:
    log.error(
        "webhook %s of rule %s is not delivered to %s (%s): %s",
        webhook.id,
        webhook.rule,
        webhook.endpoint,
        result,
        failure,
    )


async def _unless_it_fails(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except ServiceError as error:
        log.warning("webhooks will be retried: %s", error)
    except Exception:
        log.exception("the delivery of webhooks failed and will be retried")
