"""Dialogues in which a rule fires, on a real store."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from service.conversation.dialogue import Utterance
from service.conversation.rules import Rule, own_shares
from service.dialogues.rules import RuleReader
from service.rules.rule_files import Endpoint, RuleSet
from service.rules.rulebook import Rulebook
from service.sessions.store import SessionStore
from service.sessions.webhooks import WebhookRow

CRM = Endpoint("crm", "http://127.0.0.1:9/", bytes(32), allow_private=True)


def rule(name: str = "angry", **more: Any) -> Rule:
    values: dict[str, Any] = {
        "name": name,
        "label_space": "meld",
        "labels": ("anger",),
        "shares": {"meld": own_shares(["anger"])},
        "probability": 0.5,
        "turns": 1,
        "of_last": 1,
        "speaker": None,
        "role": None,
        "tenants": None,
        "endpoint": "crm",
    }
    return Rule(**(values | more))


def rulebook_of(*rules: Rule, endpoints: tuple[Endpoint, ...] = (CRM,)) -> Rulebook:
    """A rulebook with other rules than its file had."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "rules.toml"
        file.write_text("rules = []\n[endpoints]\n")
        rulebook = Rulebook(file, {})
    rulebook.rules = RuleSet(rules, {each.name: each for each in endpoints}, "", ())
    return rulebook


class Talk:
    """Utterances with given probabilities of anger, checked against rules and stored."""

    def __init__(self, store: SessionStore, *rules: Rule) -> None:
        self.store = store
        self.matched: list[str] = []
        self.rulebook = rulebook_of(*rules)
        self.reader = RuleReader(self.rulebook, store.webhooks, self.matched.append, lambda: None)

    async def say(
        self,
        anger: float,
        dialogue_id: str = "call-42",
        speaker: str = "Ann",
        tenant: str = "acme",
        **more: Any,
    ) -> list[WebhookRow]:
        """Store an utterance; the webhooks stored with it."""
        tail = await self.store.tail(tenant, dialogue_id, speaker, lines=2)
        utterance = Utterance(speaker, f"Hm {anger}.", **more)
        emotion: Any = {
            "label_space": "meld",
            "probabilities": {"anger": anger, "neutral": 1 - anger},
        }
        webhooks = await self.reader.webhooks_of(tail, utterance, emotion)
        await self.store.append(
            tail,
            text=utterance.text,
            label_space="meld",
            prediction={"emotion": emotion},
            role=utterance.role,
            webhooks=webhooks,
        )
        self.reader.stored(webhooks)
        return webhooks

    async def pending(self) -> int:
        return (await self.store.webhooks.pending()).count


def now() -> datetime:
    return datetime.now(UTC)
