"""Turns on a real store, read by a recognizer whose engine finds every label as likely."""

import math
from collections.abc import Sequence
from pathlib import Path

from service.admission.places import Places
from service.concurrency import NamedLocks
from service.conversation.derived import load_derived_label_spaces
from service.conversation.labels import load_label_spaces
from service.conversation.valence import valences_of
from service.decoding.bundle import Base, Bundle, Window, trained_labels
from service.decoding.engine import LabelEngine, Reading
from service.decoding.tokenizer import Tokenizer
from service.dialogues.rules import RuleReader
from service.dialogues.turns import TurnTaker
from service.priority import Priority
from service.recognition.answering import Answerer
from service.recognition.opening import open_recognizer
from service.recognition.pipeline import Recognizer
from service.sessions.store import SessionStore

FOLDER = Path(__file__).parents[3] / "data" / "label_spaces"
SPACES = load_label_spaces(FOLDER)
VALENCES = valences_of(load_derived_label_spaces(FOLDER, SPACES))


class Undecided:
    """A label engine for which everything is as likely."""

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        likely = math.log(1 / len(candidates))
        return Reading(tuple(likely for _ in candidates), cached_tokens=0)

    async def check(self) -> None: ...

    async def close(self) -> None: ...


def recognizer(engine: LabelEngine) -> Recognizer:
    """Of MELD's labels, by the words of the prompt."""
    bundle = Bundle(
        format=1,
        name="scripted",
        version="1",
        base=Base(name="none", revision="none"),
        template="v2",
        window=Window(lowest=2, highest=4),
        max_tokens=100_000,
        demonstrations=0,
        label_spaces={"meld": trained_labels(SPACES["meld"])},
        encoder="none",
        data={},
        code_version="test",
    )
    words: dict[str, int] = {}

    def encode(text: str) -> tuple[int, ...]:
        return tuple(words.setdefault(word, len(words) + 2) for word in text.split())

    return open_recognizer(bundle, Tokenizer(encode, (0,), 1), SPACES, engine, None)


def turns_on(
    store: SessionStore, engine: LabelEngine | None = None, rules: RuleReader | None = None
) -> TurnTaker:
    places = Places(64, reserved=32, most_waiting=10_000)
    return TurnTaker(
        Answerer(recognizer(engine or Undecided()), {}),
        store,
        NamedLocks(),
        places,
        most_utterances=100_000,
        valences=VALENCES,
        rules=rules,
    )
