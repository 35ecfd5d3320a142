"""Whatever is asked, in whatever order and of whichever process, a plain model answers the same."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from service.conversation.dialogue import Demonstration
from service.corrections import Corrector
from service.demonstrations.encoder import Encoder
from service.demonstrations.store import DemonstrationStore
from service.errors import (
    CorrectionNotFound,
    DemonstrationNotFound,
    DemonstrationsUnavailable,
    DialogueNotFound,
    IdempotencyKeyReused,
    UtteranceNotFound,
)
from service.priority import Priority
from service.sessions.answers import AlreadyAnswered, Answer, Key, Once
from service.sessions.database import open_database
from service.sessions.migrate import migrate
from service.sessions.store import SessionStore, StoredUtterance
from service.sessions.turns import NamedLocks
from tests.turns.scripted import SPACES, turns_on

T = TypeVar("T")
Name = tuple[str, str]

_tenants = count()

TENANTS = st.sampled_from("ab")
DIALOGUES = st.sampled_from(["call-1", "call-2"])
SPEAKERS = st.sampled_from(["Ann", "Ben", "Cem"])
TEXTS = st.sampled_from(["We won!", "We lost.", "Who knows?"])
INDEXES = st.integers(0, 3)
LABELS = st.sampled_from(["joy", "sadness", "anger"])
KEYS = st.sampled_from(["k-1", "k-2", "k-3"])
PROCESSES = st.integers(0, 1)


@dataclass
class Shelf:
    """Demonstrations in a dictionary; while `away`, it does not answer."""

    held: dict[Name, Demonstration] = field(default_factory=dict)
    away: bool = False

    async def add(self, demonstrations: list[Demonstration], _: Any, tenant: str) -> None:
        self._answer()
        self.held.update({(tenant, each.id): each for each in demonstrations})

    async def delete(self, demonstration_id: str, tenant: str) -> None:
        self._answer()
        if self.held.pop((tenant, demonstration_id), None) is None:
            raise DemonstrationNotFound(demonstration_id)

    def _answer(self) -> None:
        if self.away:
            raise DemonstrationsUnavailable("away")


class Blank:
    """An encoder for which all texts are alike."""

    async def encode(self, text: str, priority: Priority) -> Any:
        return np.zeros(384, np.float32)


@dataclass
class Line:
    """What the model holds of an utterance."""

    speaker: str
    text: str
    label: str | None = None


@dataclass
class Call:
    """What the model holds of a dialogue."""

    lines: list[Line]
    changed: int
    keys: set[str] = field(default_factory=set)


class Dialogues(RuleBasedStateMachine):
    """Two processes on one database, and the model of it."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stores = [SessionStore(open_database(url)) for _ in range(2)]
        self.turns = [turns_on(store) for store in self.stores]
        self.shelf = Shelf()
        self.correctors = [
            Corrector(
                SPACES,
                store,
                cast(DemonstrationStore, self.shelf),
                cast(Encoder, Blank()),
                NamedLocks(),
            )
            for store in self.stores
        ]
        self.run_of = next(_tenants)
        self.calls: dict[Name, Call] = {}
        self.answers: dict[tuple[str, str], tuple[str, str, Answer]] = {}
        self.time = 0
        self.marks: list[tuple[int, datetime]] = []

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def tenant(self, letter: str) -> str:
        return f"{letter}-{self.run_of}"

    def changed(self, name: Name) -> None:
        self.time += 1
        self.calls[name].changed = self.time

    def take(self, process: int, name: Name, line: Line, once: Once[StoredUtterance] | None) -> int:
        found = self.do(self.turns[process].take(*name, line.speaker, line.text, "meld", once=once))
        call = self.calls.setdefault(name, Call([], 0))
        assert found.utterance.index == len(call.lines)
        call.lines.append(line)
        self.changed(name)
        return found.utterance.index

    @rule(process=PROCESSES, letter=TENANTS, dialogue=DIALOGUES, speaker=SPEAKERS, text=TEXTS)
    def post(self, process: int, letter: str, dialogue: str, speaker: str, text: str) -> None:
        self.take(process, (self.tenant(letter), dialogue), Line(speaker, text), None)

    @rule(process=PROCESSES, letter=TENANTS, dialogue=DIALOGUES, text=TEXTS, value=KEYS)
    def post_under_a_key(
        self, process: int, letter: str, dialogue: str, text: str, value: str
    ) -> None:
        name = (self.tenant(letter), dialogue)
        key = Key(name[0], value, f"{dialogue} {text}")
        once = Once(key, lambda stored: Answer(201, f"{stored.index} {stored.text}"))
        known = self.answers.get((name[0], value))
        if known is None:
            index = self.take(process, name, Line("Ann", text), once)
            self.answers[name[0], value] = (dialogue, key.request, Answer(201, f"{index} {text}"))
            return
        _, request, answer = known
        if request != key.request:
            with pytest.raises(IdempotencyKeyReused):
                self.do(self.turns[process].take(*name, "Ann", text, "meld", once=once))
        else:
            with pytest.raises(AlreadyAnswered) as told:
                self.do(self.turns[process].take(*name, "Ann", text, "meld", once=once))
            assert told.value.answer == answer

    @rule(process=PROCESSES, letter=TENANTS, dialogue=DIALOGUES, index=INDEXES, label=LABELS)
    def correct(self, process: int, letter: str, dialogue: str, index: int, label: str) -> None:
        name = (self.tenant(letter), dialogue)
        work = self.correctors[process].correct(*name, index, "meld", label)
        if name not in self.calls or index >= len(self.calls[name].lines):
            with pytest.raises((DialogueNotFound, UtteranceNotFound)):
                self.do(work)
            return
        _, degraded = self.do(work)
        assert bool(degraded) == self.shelf.away
        line = self.calls[name].lines[index]
        if line.label != label:
            line.label = label
            self.changed(name)

    @rule(process=PROCESSES, letter=TENANTS, dialogue=DIALOGUES, index=INDEXES)
    def take_back(self, process: int, letter: str, dialogue: str, index: int) -> None:
        name = (self.tenant(letter), dialogue)
        work = self.correctors[process].take_back(*name, index)
        lines = self.calls[name].lines if name in self.calls else []
        if index >= len(lines) or lines[index].label is None:
            with pytest.raises((DialogueNotFound, UtteranceNotFound, CorrectionNotFound)):
                self.do(work)
            return
        self.do(work)
        lines[index].label = None
        self.changed(name)

    def forget(self, name: Name) -> None:
        del self.calls[name]
        self.answers = {
            (tenant, key): known
            for (tenant, key), known in self.answers.items()
            if (tenant, known[0]) != name
        }

    @rule(process=PROCESSES, letter=TENANTS, dialogue=DIALOGUES)
    def erase(self, process: int, letter: str, dialogue: str) -> None:
        name = (self.tenant(letter), dialogue)
        work = self.correctors[process].erase(*name)
        if name not in self.calls:
            with pytest.raises(DialogueNotFound):
                self.do(work)
            return
        self.do(work)
        self.forget(name)

    @rule()
    def remember_the_moment(self) -> None:
        self.marks.append((self.time, datetime.now(UTC)))

    @precondition(lambda self: self.marks)
    @rule(process=PROCESSES)
    def expire(self, process: int) -> None:
        time, moment = self.marks[-1]
        while erased := self.do(self.stores[process].erase_before(moment, 1)):
            self.do(self.correctors[process].deliver(erased[0].pending))
        for name in [name for name, call in self.calls.items() if call.changed <= time]:
            self.forget(name)

    @rule()
    def lose_the_demonstrations(self) -> None:
        self.shelf.away = True

    @rule(process=PROCESSES)
    def find_the_demonstrations(self, process: int) -> None:
        self.shelf.away = False
        self.do(self.correctors[process].deliver_all())

    @invariant()
    def every_process_reads_what_the_model_holds(self) -> None:
        for letter in "ab":
            for dialogue in ("call-1", "call-2"):
                name = (self.tenant(letter), dialogue)
                for store in self.stores:
                    if name not in self.calls:
                        assert self.do(store.version(*name)) is None
                        continue
                    lines = self.calls[name].lines
                    timeline = self.do(store.timeline(*name))
                    assert timeline.length == len(lines)
                    assert [u.index for u in timeline.utterances] == list(range(len(lines)))
                    assert [
                        Line(u.speaker, u.text, u.correction and u.correction.label)
                        for u in timeline.utterances
                    ] == lines

    @invariant()
    def demonstrations_are_as_the_corrections_say(self) -> None:
        if self.shelf.away:
            return
        wanted = [
            (tenant, line.label, line.text)
            for (tenant, _), call in self.calls.items()
            for line in call.lines
            if line.label is not None
        ]
        held = [(tenant, d.label, d.text) for (tenant, _), d in self.shelf.held.items()]
        assert sorted(held) == sorted(wanted)

    def teardown(self) -> None:
        self.shelf.away = False
        for name in list(self.calls):
            self.do(self.correctors[0].erase(*name))
        self.do(self.correctors[0].deliver_all())
        for store in self.stores:
            self.do(store.close())
        self.loop.close()


def test_dialogues_are_what_a_plain_model_says(url: str) -> None:
    """Turns, repeated requests, corrections, erasures and expiry, by two processes that share
    nothing but the database.
    """

    async def prepare() -> None:
        engine = open_database(url)
        await migrate(engine)
        await engine.dispose()

    asyncio.run(prepare())
    run_state_machine_as_test(
        lambda: Dialogues(url),
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
