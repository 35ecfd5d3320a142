"""Tenants of a running service, each with a key of its own: they ask, correct and take back."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

from service.access.keys import Key, Scope, digest, entry, new_key
from service.conversation.dialogue import Dialogue, Utterance
from tests.bench.correction_lines import Asked
from tests.bench.processes import HOST, Server, service
from tests.bench.setup import Setup

T = TypeVar("T")
R = TypeVar("R")

_PORTION = 120  # utterances of a batch
_CALLERS = 8  # dialogues that one tenant holds at once
_PATIENCE_S = 300.0
_numbers = count()


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said of an utterance; two are equal where they are so to the last digit."""

    label: str
    unified: str
    probabilities: Mapping[str, float] = field(hash=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Raises ValueError for an answer without demonstrations: it would be of something else."""
        if "demonstrations" in document["degraded"]:
            raise ValueError("the service answered without demonstrations")
        emotion = document["emotion"]
        return cls(emotion["label"], emotion["unified"], emotion["probabilities"])

    @property
    def second(self) -> str:
        """The label that comes next in probability."""
        others = {name: p for name, p in self.probabilities.items() if name != self.label}
        return max(others, key=lambda name: others[name])


@dataclass(frozen=True, slots=True)
class Stored:
    """An utterance that the service keeps, and what it answered."""

    dialogue: str
    index: int
    answer: Answer


@contextmanager
def served(setup: Setup, names: Sequence[str]) -> Iterator[tuple[Server, dict[str, str]]]:
    """The service with a tenant for each name, and their keys."""
    keys = {name: new_key() for name in names}
    file = Path(setup.folder) / "keys.toml"
    entries = [
        Key(
            id=name,
            tenant=name,
            scopes=frozenset({Scope.READ, Scope.WRITE}),
            sha256=digest(key).hex(),
        )
        for name, key in keys.items()
    ]
    file.write_text("\n\n".join(map(entry, entries)) + "\n")
    # What is measured is what is answered, not when: a busy machine must not answer without.
    patient = {
        "ERC_DEMONSTRATIONS__TIMEOUT_S": f"{_PATIENCE_S:g}",
        "ERC_ADMISSION__DEADLINE_S": f"{_PATIENCE_S:g}",
    }
    with service(setup, True, settings={"ERC_KEYS_FILE": str(file), **patient}) as server:
        yield server, keys


class Tenant:
    """One tenant's client. What it asks by batch is not kept; what it says is."""

    def __init__(self, port: int, key: str) -> None:
        self._client = httpx.AsyncClient(
            base_url=f"http://{HOST}:{port}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=_PATIENCE_S,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def label_spaces(self) -> list[str]:
        """Those that can be asked for."""
        spaces_listed = (await self._send("GET", "/label-spaces"))["label_spaces"]
        return [space["name"] for space in spaces_listed if space["available"]]

    async def ask(self, questions: Sequence[Asked]) -> list[Answer]:
        """What is said of each line, in new dialogues that are not kept."""
        spaces = dict.fromkeys(each.label_space for each in questions)
        answers: dict[int, Answer] = {}
        for space in spaces:
            places = [n for n, each in enumerate(questions) if each.label_space == space]
            answer_lists = await self.score(space, [questions[n].utterances for n in places])
            answers |= {
                n: answers_in[-1] for n, answers_in in zip(places, answer_lists, strict=True)
            }
        return [answers[n] for n in range(len(questions))]

    async def score(
        self, label_space: str, dialogues: Sequence[Sequence[Utterance]]
    ) -> list[list[Answer]]:
        """What is said of each utterance of whole dialogues."""
        answer_lists: list[list[Answer]] = []
        for portion in _portions(dialogues):
            body = {
                "label_space": label_space,
                "dialogues": [
                    {
                        "id": _new_id(),
                        "utterances": [{"speaker": u.speaker, "text": u.text} for u in batch],
                    }
                    for batch in portion
                ],
            }
            for result in (await self._send("POST", "/batch", body))["results"]:
                if "error" in result:
                    raise ValueError(f"a dialogue was not scored: {result['error']}")
                answer_lists.append([Answer.of(each) for each in result["utterances"]])
        return answer_lists

    async def say(self, questions: Sequence[Asked], callers: int = _CALLERS) -> list[Stored]:
        """Post each line with those before it in a new dialogue, one utterance after the other."""

        async def one(each: Asked) -> Stored:
            dialogue = Dialogue(_new_id(), each.utterances)
            return (await self._post(dialogue, each.label_space))[-1]

        return await each_of(questions, one, callers)

    async def say_all(self, label_space: str, dialogues: Sequence[Dialogue]) -> list[list[Stored]]:
        """Post whole dialogues, under new ids."""

        async def one(dialogue: Dialogue) -> list[Stored]:
            return await self._post(Dialogue(_new_id(), dialogue.utterances), label_space)

        return await each_of(dialogues, one, _CALLERS)

    async def correct(self, stored: Stored, label_space: str, label: str) -> None:
        """Put a label.

        Raises:
            ValueError: it is not a demonstration at once.
        """
        body = {"label_space": label_space, "label": label}
        answer = await self._send("PUT", _label_path(stored), body)
        if answer["degraded"]:
            raise ValueError(f"a correction is to be told later: {answer['degraded']}")

    async def take_back(self, stored: Stored) -> None:
        await self._send("DELETE", _label_path(stored))

    async def _post(self, dialogue: Dialogue, label_space: str) -> list[Stored]:
        path = f"/dialogues/{quote(dialogue.id, safe='')}/utterances"
        stored = []
        for utterance in dialogue.utterances:
            body = {
                "speaker": utterance.speaker,
                "text": utterance.text,
                "label_space": label_space,
            }
            answer = await self._send("POST", path, body)
            stored.append(Stored(dialogue.id, answer["index"], Answer.of(answer)))
        return stored

    async def _send(self, method: str, path: str, body: object = None) -> Any:
        answer = await self._client.request(method, path, json=body)
        if not answer.is_success:
            raise ValueError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None


async def each_of(
    given: Sequence[T], one: Callable[[T], Awaitable[R]], callers: int = _CALLERS
) -> list[R]:
    """What `one` answers of each, in the order given, so many at a time."""
    free = asyncio.Semaphore(callers)

    async def when_free(each: T) -> R:
        async with free:
            return await one(each)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(when_free(each)) for each in given]
    return [task.result() for task in tasks]


def _portions(dialogues: Sequence[Sequence[Utterance]]) -> Iterator[list[Sequence[Utterance]]]:
    portion: list[Sequence[Utterance]] = []
    held = 0
    for one in dialogues:
        if portion and held + len(one) > _PORTION:
            yield portion
            portion, held = [], 0
        portion.append(one)
        held += len(one)
    if portion:
        yield portion


def _label_path(stored: Stored) -> str:
    return f"/dialogues/{quote(stored.dialogue, safe='')}/utterances/{stored.index}/label"


def _new_id() -> str:
    return f"asked-{next(_numbers)}"
