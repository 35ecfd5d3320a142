"""Rules fire on stored utterances, whose webhooks are stored with them, on both databases."""

import asyncio
import json
from typing import Any

import pytest

from service.conversation.rules import own_shares
from service.sessions.idempotency import Answer, Key, Once
from service.sessions.store import Conflict, SessionStore
from tests.dialogues.webhooks.told import Talk, rule


async def test_a_rule_fires_once_while_it_holds(store: SessionStore) -> None:
    talk = Talk(store, rule())

    fired = [len(await talk.say(anger)) for anger in (0.2, 0.9, 0.9, 0.1, 0.9)]

    assert fired == [0, 1, 0, 0, 1]
    assert talk.matched == ["angry", "angry"]
    assert await talk.pending() == 2


async def test_a_restart_forgets_nothing(store: SessionStore) -> None:
    """Each utterance is checked by a process that has seen none before."""
    fired = [len(await Talk(store, rule(turns=2, of_last=3)).say(a)) for a in (0.9, 0.1, 0.9, 0.9)]

    assert fired == [0, 0, 1, 0]


async def test_the_webhook_says_where_and_what_but_not_the_text(store: SessionStore) -> None:
    talk = Talk(store, rule(), rule("with-text", include_text=True))

    webhooks = await talk.say(0.75, "call/42", role="customer")

    bodies = [json.loads(webhook["body"]) for webhook in webhooks]
    assert [body["type"] for body in bodies] == ["rule.matched"] * 2
    assert bodies[0]["timestamp"].endswith("Z")
    expected = {
        "rule": "angry",
        "dialogue_id": "call/42",
        "index": 0,
        "speaker": "Ann",
        "role": "customer",
        "label_space": "meld",
        "label": "anger",
        "probability": 0.75,
        "link": "/dialogues/call%2F42?limit=1",
    }
    assert bodies[0]["data"] == expected
    assert bodies[1]["data"] == expected | {"rule": "with-text", "text": "Hm 0.75."}
    assert all("." not in webhook["id"] for webhook in webhooks)
    assert len({webhook["id"] for webhook in webhooks}) == 2


async def test_rules_look_at_the_turns_that_they_name(store: SessionStore) -> None:
    """Of a tenant, a speaker, a role, and a label space."""
    shares = {"unified": own_shares(["mad"])}
    talk = Talk(
        store,
        rule("of-acme", tenants=frozenset({"acme"})),
        rule("of-ann", speaker="Ann"),
        rule("of-customers", role="customer", turns=2, of_last=2),
        rule("unified", shares=shares, label_space="unified", labels=("mad",)),
    )

    told = [
        [webhook["rule"] for webhook in await talk.say(0.9, **more)]
        for more in (
            {"tenant": "other", "speaker": "Ben"},
            {"speaker": "Ben", "role": "customer"},
            {"speaker": "Cem", "role": "agent"},
            {"speaker": "Ann", "role": "customer"},
        )
    ]

    assert told == [[], ["of-acme"], [], ["of-ann", "of-customers"]]


@pytest.mark.parametrize("key", [False, True])
async def test_an_utterance_that_is_not_stored_tells_nobody(store: SessionStore, key: bool) -> None:
    """Another process was first with an utterance, or with the request."""
    talk = Talk(store, rule())
    once: Once[Any] = Once(Key("acme", "k", "r"), lambda _: Answer(201, ""))
    before = await store.tail("acme", "call-42", "Ann", lines=2)
    webhooks = await talk.say(0.9)
    stale: dict[str, Any] = {"text": "x", "label_space": "meld", "prediction": {}}
    if key:
        tail = await store.tail("acme", "call-42", "Ann", lines=2)
        await store.append(tail, **stale, once=once)
        before = await store.tail("acme", "call-42", "Ann", lines=2)
    count = await talk.pending()
    rows = [dict(webhooks[0], id="msg_other", index=before.length)]

    with pytest.raises(Conflict):
        await store.append(before, **stale, webhooks=rows, once=once if key else None)  # type: ignore[arg-type]

    assert await talk.pending() == count == 1


async def test_of_writers_at_once_each_that_stores_tells(store: SessionStore) -> None:
    """With a rule that fires on the second angry turn, it is told of once, whoever was second."""
    talks = [Talk(store, rule(turns=2, of_last=2)) for _ in range(4)]

    async def say(talk: Talk) -> None:
        while True:
            try:
                await talk.say(0.9)
            except Conflict:
                continue
            return

    await asyncio.gather(*map(say, talks))

    assert await talks[0].pending() == 1


async def test_an_erased_dialogue_tells_nobody_any_more(store: SessionStore) -> None:
    talk = Talk(store, rule())
    await talk.say(0.9)
    await talk.say(0.9, "call-43")

    await store.delete("acme", "call-42")

    assert await talk.pending() == 1
    now = (await store.webhooks.pending()).oldest
    assert now is not None
    (claimed,) = await store.webhooks.claim("crm", now, 30, 10)
    assert json.loads(claimed.body)["data"]["dialogue_id"] == "call-43"
