"""Webhooks are delivered at least once, whatever endpoints and processes do, on both databases."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from service.dialogues.webhooks import (
    LEASE_S,
    LONGEST_PAUSE_S,
    WebhookKeeping,
    WebhookSender,
    pause_after,
)
from service.rules.posting import Attempt
from service.rules.rule_files import Endpoint
from service.sessions.database import open_database
from service.sessions.store import SessionStore
from service.settings import Rules
from tests.clock import Clock, until
from tests.dialogues.webhooks.told import CRM, Talk, now, rule, rulebook_of

OK, DOWN = Attempt(204, None), Attempt(503, "status 503")
GIVE_UP_S = 7200.0


class Endpoints:
    """Answers attempts, and remembers their ids and endpoints."""

    def __init__(self, *answers: Attempt) -> None:
        self.answers = list(answers)
        self.ids: list[str] = []
        self.names: list[str] = []

    async def post(self, endpoint: Endpoint, webhook_id: str, body: bytes) -> Attempt:
        self.ids.append(webhook_id)
        self.names.append(endpoint.name)
        await asyncio.sleep(0)
        return self.answers.pop(0) if self.answers else OK


def moving() -> Callable[[], datetime]:
    """A clock of the day that goes on with the event loop's."""
    loop, start = asyncio.get_running_loop(), now()
    begun = loop.time()
    return lambda: start + timedelta(seconds=loop.time() - begun)


def sender(store: SessionStore, endpoints: Any, counted: list[str], *names: str) -> WebhookSender:
    at = tuple(Endpoint(name, CRM.url, CRM.secret) for name in names or ("crm",))
    return WebhookSender(
        store.webhooks,
        rulebook_of(endpoints=at),
        endpoints.post,
        counted.append,
        GIVE_UP_S,
        now=moving(),
    )


async def sent(sending: WebhookSender) -> None:
    """Send what is due."""
    await sending.look()
    await asyncio.gather(*sending._sending.values())


async def test_a_failed_attempt_is_repeated_later_under_the_same_id(
    store: SessionStore, clock: Clock
) -> None:
    (webhook,) = await Talk(store, rule()).say(0.9)
    endpoints, counted = Endpoints(DOWN, DOWN, OK), list[str]()
    sending = sender(store, endpoints, counted)

    await sent(sending)
    await sent(sending)
    assert endpoints.ids == [webhook["id"]]
    for _ in range(2):
        await clock.skip(15)
        await sent(sending)
    await clock.skip(GIVE_UP_S)
    await sent(sending)

    assert endpoints.ids == [webhook["id"]] * 3
    assert counted == ["retried", "retried", "delivered"]
    assert (await store.webhooks.pending()).count == 0


def test_pauses_double_up_to_the_longest_and_differ() -> None:
    means = [pause_after(attempts, lambda low, high: (low + high) / 2) for attempts in range(1, 9)]
    assert means == [5.0 * 2**n for n in range(8)]
    assert pause_after(1, lambda low, high: low) == 2.5
    assert pause_after(1, lambda low, high: high) == 7.5
    assert pause_after(10_000, lambda low, high: high) == LONGEST_PAUSE_S


async def test_an_endpoint_is_given_up_after_a_bounded_time(
    store: SessionStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The last attempt is at its end; the log names the webhook."""
    (webhook,) = await Talk(store, rule()).say(0.9)
    endpoints, counted = Endpoints(*[DOWN] * 100), list[str]()
    sending = sender(store, endpoints, counted)

    for _ in range(60):
        await sent(sending)
        await clock.skip(240)

    assert counted[-1] == "gave_up"
    assert set(counted[:-1]) == {"retried"}
    # 5, 10, ... s: the two hours have room for a dozen.
    assert 8 <= len(counted) <= 16
    assert (await store.webhooks.pending()).count == 0
    errors = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert errors == [
        f"webhook {webhook['id']} of rule angry is not delivered to crm (gave_up): status 503"
    ]


async def test_an_endpoint_can_ask_for_a_longer_pause(store: SessionStore, clock: Clock) -> None:
    await Talk(store, rule()).say(0.9)
    endpoints = Endpoints(Attempt(429, "status 429", 600.0))
    sending = sender(store, endpoints, [])
    await sent(sending)

    await clock.skip(500)
    await sent(sending)
    assert len(endpoints.ids) == 1
    await clock.skip(101)
    await sent(sending)
    assert len(endpoints.ids) == 2


async def test_an_endpoint_that_is_gone_is_not_asked_again(
    store: SessionStore, clock: Clock
) -> None:
    await Talk(store, rule()).say(0.9)
    endpoints, counted = Endpoints(Attempt(410, "status 410")), list[str]()
    sending = sender(store, endpoints, counted)

    await sent(sending)
    await clock.skip(GIVE_UP_S)
    await sent(sending)

    assert (len(endpoints.ids), counted) == (1, ["gone"])


async def test_an_endpoint_that_does_not_answer_delays_no_other(store: SessionStore) -> None:
    talk = Talk(store, rule(), rule("sad", endpoint="pager"))
    for n in range(6):
        await talk.say(0.9, f"call-{n}")

    class Slow(Endpoints):
        async def post(self, endpoint: Endpoint, webhook_id: str, body: bytes) -> Attempt:
            if endpoint.name == "crm":
                await asyncio.Event().wait()
            return await super().post(endpoint, webhook_id, body)

    endpoints = Slow()
    running = asyncio.create_task(sender(store, endpoints, [], "crm", "pager").run())

    await until(lambda: len(endpoints.names) == 6)
    assert set(endpoints.names) == {"pager"}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_processes_do_not_send_the_same_at_once(store: SessionStore, url: str) -> None:
    """With connections of their own to one database, each webhook is sent by one of them."""
    talk = Talk(store, rule())
    for n in range(40):
        await talk.say(0.9, f"call-{n}")
    stores = [SessionStore(open_database(url)) for _ in range(3)]
    by_process = [Endpoints() for _ in stores]

    await asyncio.gather(
        *(sent(sender(*each, [])) for each in zip(stores, by_process, strict=True))
    )

    ids = [each for endpoints in by_process for each in endpoints.ids]
    assert len(ids) == len(set(ids)) == 40
    assert sum(bool(endpoints.ids) for endpoints in by_process) > 1
    for each in stores:
        await each.close()


async def test_what_a_killed_process_was_sending_is_sent_again(
    store: SessionStore, clock: Clock
) -> None:
    """Once its lease is over, and not before; the id is the same."""
    (webhook,) = await Talk(store, rule()).say(0.9)
    endpoints = Endpoints()
    sending = sender(store, endpoints, [])
    (lost,) = await store.webhooks.claim("crm", sending.now(), LEASE_S, 10)

    await sent(sending)
    assert endpoints.ids == []
    await clock.skip(LEASE_S + 1)
    await sent(sending)

    assert endpoints.ids == [webhook["id"]]
    assert not await store.webhooks.retry(lost, now(), "late")


async def test_what_a_stopped_process_was_sending_is_free_at_once(store: SessionStore) -> None:
    (webhook,) = await Talk(store, rule()).say(0.9)
    begun = asyncio.Event()

    class Endless(Endpoints):
        async def post(self, endpoint: Endpoint, webhook_id: str, body: bytes) -> Attempt:
            begun.set()
            await asyncio.Event().wait()
            return OK

    running = asyncio.create_task(sender(store, Endless(), []).run())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    endpoints = Endpoints()
    await sent(sender(store, endpoints, []))
    assert endpoints.ids == [webhook["id"]]


async def test_a_stored_webhook_is_sent_without_waiting_for_the_next_look(
    store: SessionStore,
) -> None:
    endpoints = Endpoints()
    sending = sender(store, endpoints, [])
    running = asyncio.create_task(sending.run())
    await Talk(store, rule()).say(0.9)

    sending.wake()

    await until(lambda: endpoints.ids)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_webhooks_of_an_endpoint_that_is_no_more_wait_and_are_given_up(
    store: SessionStore,
) -> None:
    await Talk(store, rule()).say(0.9)
    endpoints, counted = Endpoints(), list[str]()
    keeping = WebhookKeeping(
        store.webhooks, rulebook_of(endpoints=()), counted.append, Rules(give_up_after_s=GIVE_UP_S)
    )

    await sent(sender(store, endpoints, [], "pager"))
    await keeping.do(now())
    assert (await store.webhooks.pending()).count == 1
    await keeping.do(now() + timedelta(seconds=GIVE_UP_S + LONGEST_PAUSE_S + 1))

    assert (endpoints.ids, counted) == ([], ["gave_up"])
    assert (await store.webhooks.pending()).count == 0


async def test_finished_webhooks_are_erased_and_pending_ones_are_kept(store: SessionStore) -> None:
    talk = Talk(store, rule())
    await talk.say(0.9)
    await sent(sender(store, Endpoints(), []))
    await talk.say(0.9, "call-43")
    keeping = WebhookKeeping(
        store.webhooks, rulebook_of(), list[str]().append, Rules(webhook_retention_s=60)
    )

    await keeping.do(now())
    assert await store.webhooks.erase_before(now() - timedelta(days=9), 10) == 0
    await keeping.do(now() + timedelta(seconds=61))

    assert await store.webhooks.erase_before(now() + timedelta(days=9), 10) == 0
    assert (await store.webhooks.pending()).count == 1
