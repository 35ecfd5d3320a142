"""The rules that a turn about to be stored makes fire, and the webhooks that tell of it.

Whether a rule fires is read from the stored turns before this one. They cannot change between that
and the commit: an append that finds another end of the dialogue stores nothing, and is tried again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson

from service.conversation.dialogue import Utterance
from service.conversation.rules import Match, Rule, Turn
from service.recognition.document import Emotion
from service.rules.rulebook import Rulebook
from service.sessions.tails import Tail
from service.sessions.webhooks import WebhookRow, Webhooks, new_webhook_id


@dataclass(frozen=True, slots=True)
class RuleReader:
    """Evaluates the rules in force on turns.

    Attributes:
        count: called with the name of each rule that has fired on a stored turn.
        wake: called when there are webhooks to deliver.
    """

    rulebook: Rulebook
    webhooks: Webhooks
    count: Callable[[str], None]
    wake: Callable[[], None]

    async def webhooks_of(
        self, tail: Tail, utterance: Utterance, emotion: Emotion
    ) -> list[WebhookRow]:
        """The webhooks to store with an utterance, which comes after a dialogue's tail.

        Raises:
            DatabaseUnavailable: the turns before it cannot be read.
        """
        rules = self.rulebook.rules
        turn = Turn(
            tail.length,
            utterance.speaker,
            utterance.role,
            emotion["label_space"],
            emotion["probabilities"],
        )
        rows = []
        for rule in rules.rules:
            # A rule fires only on a turn that matches, so most turns need no others.
            if (
                rule.applies_to(tail.tenant)
                and rule.looks_at(turn)
                and rule.match(turn) is not None
            ):
                match = rule.fires([*await self._turns_before(tail, rule), turn])
                if match is not None:
                    rows.append(_row(rule, match, tail, utterance, rules.service_url))
        return rows

    def stored(self, rows: Sequence[WebhookRow]) -> None:
        """Go on once webhooks have been stored."""
        for row in rows:
            self.count(row["rule"])
        if rows:
            self.wake()

    async def _turns_before(self, tail: Tail, rule: Rule) -> list[Turn]:
        readings = await self.webhooks.readings(
            tail.tenant,
            tail.dialogue_id,
            tail.length,
            tuple(rule.shares),
            rule.speaker,
            rule.role,
            rule.of_last,
        )
        return [
            Turn(
                each.index,
                each.speaker,
                each.role,
                each.label_space,
                each.prediction["emotion"]["probabilities"],
            )
            for each in readings
        ]


def _row(
    rule: Rule, match: Match, tail: Tail, utterance: Utterance, service_url: str
) -> WebhookRow:
    now = datetime.now(UTC)
    after = f"after={match.index - 1}&" if match.index else ""
    data: dict[str, Any] = {
        "rule": rule.name,
        "dialogue_id": tail.dialogue_id,
        "index": match.index,
        "speaker": utterance.speaker,
        "role": utterance.role,
        "label_space": rule.label_space,
        "label": match.label,
        "probability": match.probability,
        "link": f"{service_url}/dialogues/{quote(tail.dialogue_id, safe='')}?{after}limit=1",
    }
    if rule.include_text:
        data["text"] = utterance.text
    body = {"type": "rule.matched", "timestamp": now, "data": data}
    return {
        "id": new_webhook_id(),
        "tenant": tail.tenant,
        "dialogue_id": tail.dialogue_id,
        "index": match.index,
        "rule": rule.name,
        "endpoint": rule.endpoint,
        "body": orjson.dumps(body, option=orjson.OPT_UTC_Z).decode(),
        "created_at": now,
    }
