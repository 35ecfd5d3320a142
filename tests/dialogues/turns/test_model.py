"""Whatever is asked, in whatever order and of whichever process, a plain model answers the same."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from service.concurrency import NamedLocks
from service.conversation.dialogue import Utterance
from service.demonstrations.encoder import DIMENSIONS, Encoder, Vectors
from service.demonstrations.qdrant_edge.store import open_edge
from service.dialogues.corrections import Corrector
from service.errors import (
    CorrectionNotFound,
    DialogueErased,
    DialogueNotFound,
    IdempotencyKeyReused,
    UtteranceNotFound,
)
from service.sessions.database import open_database
from service.sessions.idempotency import AlreadyAnswered, Answer, Key, Once
from service.sessions.migrate import migrate
from service.sessions.records import StoredUtterance
from service.sessions.store import SessionStore
from tests.dialogues.turns.scripted import SPACES, VALENCES, turns_on

T = TypeVar("T")
Name = tuple[str, str]  # a letter that stands for the tenant, a dialogue

_runs = count()

LETTERS = "ab"
EVERY_NAME = [(letter, dialogue) for letter in LETTERS for dialogue in ("call-1", "call-2")]
NAMES = st.sampled_from(EVERY_NAME)
PLACES = st.tuples(NAMES, st.integers(0, 3))
SPEAKERS = st.sampled_from(["Ann", "Ben", "Cem"])
TEXTS = st.sampled_from(["We won!", "We lost.", "Who knows?"])
LABELS = st.sampled_from(["joy", "sadness", "anger"])
REQUESTS = st.tuples(NAMES, TEXTS, st.sampled_from(["k-1", "k-2", "k-3"]))
PROCESSES = st.integers(0, 1)


def alike(texts: list[str]) -> Vectors:
    """The same unit vector for every text: which is near does not matter here."""
    return np.full((len(texts), DIMENSIONS), DIMENSIONS**-0.5, np.float32)


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


def mostly(
    known: Callable[["Dialogues"], Sequence[T]], anything: st.SearchStrategy[T]
) -> st.SearchStrategy[T]:
    """What is there, or anything: of what is drawn blindly next to nothing is there."""

    def drawn(dialogues: "Dialogues") -> st.SearchStrategy[T]:
        model_of = known(dialogues)
        return st.sampled_from(model_of) | anything if model_of else anything

    return st.runner().flatmap(drawn)


class Dialogues(RuleBasedStateMachine):
    """Two processes on one database, and the model of it."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stores = [SessionStore(open_database(url)) for _ in range(2)]
        self.turns = [turns_on(store) for store in self.stores]
        self.encoder = Encoder(alike, "alike")
        self.run_of = next(_runs)
        self.folder = folder / str(self.run_of)
        self.open_demonstrations()
        self.calls: dict[Name, Call] = {}
        # Of a letter, a key; no answer: it was erased with its dialogue.
        self.answers: dict[tuple[str, str], tuple[str, str, Answer | None]] = {}
        self.time = 0
        self.marks: list[tuple[int, datetime]] = []

    def open_demonstrations(self) -> None:
        self.demonstrations = self.do(open_edge(self.folder, self.encoder.identity))
        self.away = False
        self.correctors = [
            Corrector(
                SPACES,
                store,
                self.demonstrations,
                self.encoder,
                NamedLocks(),
                VALENCES,
                most_changes=100_000,
                most_demonstrations=100_000,
            )
            for store in self.stores
        ]

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def tenant(self, letter: str) -> str:
        """Of this run alone."""
        return f"{letter}-{self.run_of}"

    def at(self, name: Name) -> tuple[str, str]:
        letter, dialogue = name
        return self.tenant(letter), dialogue

    def spoken(self) -> list[tuple[Name, int]]:
        return [(name, n) for name, call in self.calls.items() for n in range(len(call.lines))]

    def corrected(self) -> list[tuple[Name, int]]:
        return [(name, n) for name, n in self.spoken() if self.calls[name].lines[n].label]

    def answered(self) -> list[tuple[Name, str, str]]:
        return [
            ((letter, dialogue), text, value)
            for (letter, value), (dialogue, text, _) in self.answers.items()
        ]

    def changed(self, name: Name) -> None:
        self.time += 1
        self.calls[name].changed = self.time

    def take(self, process: int, name: Name, line: Line, once: Once[StoredUtterance] | None) -> int:
        utterance = Utterance(line.speaker, line.text)
        work = self.turns[process].take(*self.at(name), utterance, "meld", once=once)
        appended = self.do(work).appended
        call = self.calls.setdefault(name, Call([], 0))
        assert appended.utterance.index == len(call.lines)
        call.lines.append(line)
        self.changed(name)
        return appended.utterance.index

    @initialize()
    def say_what_can_be_corrected(self) -> None:
        for letter in LETTERS:
            self.post(0, (letter, "call-1"), "Ann", "We won!")

    @rule(process=PROCESSES, name=NAMES, speaker=SPEAKERS, text=TEXTS)
    def post(self, process: int, name: Name, speaker: str, text: str) -> None:
        self.take(process, name, Line(speaker, text), None)

    @rule(process=PROCESSES, request=mostly(lambda run: run.answered(), REQUESTS))
    def post_under_a_key(self, process: int, request: tuple[Name, str, str]) -> None:
        name, text, value = request
        letter, dialogue = name
        once: Once[StoredUtterance] = Once(
            Key(self.tenant(letter), value, f"{dialogue} {text}"),
            lambda stored: Answer(201, f"{stored.index} {stored.text}"),
        )
        known = self.answers.get((letter, value))
        if known is None:
            index = self.take(process, name, Line("Ann", text), once)
            self.answers[letter, value] = (dialogue, text, Answer(201, f"{index} {text}"))
            return
        utterance = Utterance("Ann", text)
        work = self.turns[process].take(*self.at(name), utterance, "meld", once=once)
        if known[2] is None:
            with pytest.raises(DialogueErased):
                self.do(work)
        elif known[:2] != (dialogue, text):
            with pytest.raises(IdempotencyKeyReused):
                self.do(work)
        else:
            with pytest.raises(AlreadyAnswered) as told:
                self.do(work)
            assert told.value.answer == known[2]

    @rule(process=PROCESSES, place=mostly(lambda run: run.spoken(), PLACES), label=LABELS)
    def correct(self, process: int, place: tuple[Name, int], label: str) -> None:
        name, index = place
        work = self.correctors[process].correct(*self.at(name), index, "meld", label)
        if place not in self.spoken():
            with pytest.raises((DialogueNotFound, UtteranceNotFound)):
                self.do(work)
            return
        _, degraded = self.do(work)
        assert bool(degraded) == self.away
        line = self.calls[name].lines[index]
        if line.label != label:
            line.label = label
            self.changed(name)

    @rule(process=PROCESSES, place=mostly(lambda run: run.corrected(), PLACES))
    def take_back(self, process: int, place: tuple[Name, int]) -> None:
        name, index = place
        work = self.correctors[process].take_back(*self.at(name), index)
        if place not in self.corrected():
            with pytest.raises((DialogueNotFound, UtteranceNotFound, CorrectionNotFound)):
                self.do(work)
            return
        self.do(work)
        self.calls[name].lines[index].label = None
        self.changed(name)

    def forget(self, name: Name) -> None:
        del self.calls[name]
        for (letter, value), (dialogue, text, _) in self.answers.items():
            if (letter, dialogue) == name:
                self.answers[letter, value] = (dialogue, text, None)

    @rule(process=PROCESSES, name=NAMES)
    def erase(self, process: int, name: Name) -> None:
        work = self.correctors[process].erase(*self.at(name))
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
        self.do(self.demonstrations.close())
        self.away = True

    @rule(process=PROCESSES)
    def find_the_demonstrations(self, process: int) -> None:
        if self.away:
            self.open_demonstrations()
        self.do(self.correctors[process].deliver_all())

    @invariant()
    def every_process_reads_what_the_model_holds(self) -> None:
        for name, store in product(EVERY_NAME, self.stores):
            if name not in self.calls:
                assert self.do(store.version(*self.at(name))) is None
                continue
            lines = self.calls[name].lines
            timeline = self.do(store.timeline(*self.at(name)))
            assert timeline.length == len(lines)
            assert [u.index for u in timeline.utterances] == list(range(len(lines)))
            assert [
                Line(u.speaker, u.text, u.correction.label if u.correction else None)
                for u in timeline.utterances
            ] == lines

    @invariant()
    def demonstrations_are_as_the_corrections_say(self) -> None:
        if self.away:
            return
        wanted = [
            (letter, line.label, line.text)
            for (letter, _), call in self.calls.items()
            for line in call.lines
            if line.label is not None
        ]
        held = [
            (letter, d.label, d.text)
            for letter in LETTERS
            for d in self.do(self.demonstrations.list(tenant=self.tenant(letter))).demonstrations
        ]
        assert sorted(held) == sorted(wanted)

    def teardown(self) -> None:
        if self.away:
            self.open_demonstrations()
        for name in list(self.calls):
            self.do(self.correctors[0].erase(*self.at(name)))
        self.do(self.correctors[0].deliver_all())
        for store in self.stores:
            self.do(store.close())
        self.do(self.demonstrations.close())
        self.do(self.encoder.close())
        self.loop.close()


def test_dialogues_are_what_a_plain_model_says(url: str, tmp_path: Path) -> None:
    """Turns, repeated requests, corrections, erasures and expiry, by two processes that share
    nothing but the database.
    """

    async def prepare() -> None:
        database = open_database(url)
        await migrate(database)
        await database.close()

    asyncio.run(prepare())
    run_state_machine_as_test(
        lambda: Dialogues(url, tmp_path),  # type: ignore[arg-type]  # a function does, as its docstring says
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
