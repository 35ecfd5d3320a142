"""Clients of a service that is killed under them, and their record of what they were told."""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

from tests.faults.conftest import REMARKS

LABELS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
TALKERS = ("call-a", "call-b", "call-c", "shared", "shared", "followed")
FOLLOWED = "followed"
LATER = {"Prefer": "respond-async"}

_numbers = count()


@dataclass
class Asked:
    """A request for something that is kept.

    Attributes:
        key: under which it may be sent again.
        status, answer: what it was answered; None: nobody knows whether it was done.
    """

    method: str
    path: str
    body: Any = None
    key: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    answer: Any = None

    async def send(self, client: httpx.AsyncClient) -> httpx.Response | None:
        """Its answer; None: the service was killed."""
        key = {} if self.key is None else {"Idempotency-Key": self.key}
        try:
            response = await client.request(
                self.method, self.path, json=self.body, headers=self.headers | key
            )
        except httpx.TransportError:
            return None
        assert response.is_success, f"{self.method} {self.path}: {response.text}"
        if self.status is None:
            self.status, self.answer = (
                response.status_code,
                response.json() if response.content else None,
            )
        return response


@dataclass
class Ledger:
    """What was asked for, over all starts of the service.

    Attributes:
        said: the utterances of each dialogue, in the order they were sent.
        corrected: of each utterance, by dialogue and index, in order.
        events: of the followed dialogue, each as id, name and data.
        begun: set when an event has come, and something was corrected and erased.
    """

    said: dict[str, list[Asked]] = field(default_factory=lambda: defaultdict(list))
    corrected: dict[tuple[str, int], list[Asked]] = field(default_factory=lambda: defaultdict(list))
    erased: dict[str, Asked] = field(default_factory=dict)
    jobs: list[Asked] = field(default_factory=list)
    shown: list[Asked] = field(default_factory=list)
    events: list[tuple[str, str, Any]] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def asked(self) -> list[Asked]:
        """All of it, without order."""
        talk = [each for turns in self.said.values() for each in turns]
        corrections = [each for several in self.corrected.values() for each in several]
        return [*talk, *corrections, *self.erased.values(), *self.jobs, *self.shown]

    async def ask_until(self, url: str, killed: asyncio.Event) -> None:
        """Ask for all of this at once, until the service is gone."""
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            following = asyncio.create_task(self.follow(client))
            askers = [self.talk(client, each, killed) for each in TALKERS]
            more = (self.correct, self.erase, self.ask_for_jobs, self.show)
            await asyncio.gather(*askers, *(ask(client, killed) for ask in more))
            await following

    async def talk(self, client: httpx.AsyncClient, dialogue: str, killed: asyncio.Event) -> None:
        """Say something under a key, twice of three times, and hear what it carries."""
        while not killed.is_set():
            request = utterance(dialogue, next(_numbers))
            self.said[dialogue].append(request)
            await request.send(client)

    async def correct(self, client: httpx.AsyncClient, killed: asyncio.Event) -> None:
        """Say of utterances what they carry, of some again and again."""
        while not killed.is_set():
            await asyncio.sleep(0.02)
            heard = [each for turns in self.said.values() for each in turns if each.answer]
            if not heard:
                continue
            answer = random.choice(heard[-20:]).answer
            where = (answer["dialogue_id"], answer["index"])
            body = {"label": random.choice(LABELS), "label_space": "meld"}
            path = f"/dialogues/{where[0]}/utterances/{where[1]}/label"
            request = Asked("PUT", path, body, f"correct-{next(_numbers)}")
            self.corrected[where].append(request)
            await request.send(client)

    async def erase(self, client: httpx.AsyncClient, killed: asyncio.Event) -> None:
        """Begin dialogues and erase them."""
        while not killed.is_set():
            number = next(_numbers)
            dialogue = f"gone-{number}"
            if await utterance(dialogue, number).send(client) is not None:
                request = Asked("DELETE", f"/dialogues/{dialogue}", key=f"erase-{number}")
                self.erased[dialogue] = request
                await request.send(client)
            await asyncio.sleep(0.1)

    async def ask_for_jobs(self, client: httpx.AsyncClient, killed: asyncio.Event) -> None:
        """Have dialogues scored while nobody waits: some seconds' work, in portions."""
        body = {"dialogues": [{"id": str(n), "utterances": remarks(n)} for n in range(90)]}
        request = Asked("POST", "/batch", body, f"job-{next(_numbers)}", LATER)
        self.jobs.append(request)
        await request.send(client)

    async def show(self, client: httpx.AsyncClient, killed: asyncio.Event) -> None:
        """Add demonstrations."""
        while not killed.is_set():
            number = next(_numbers)
            shown = {"label_space": "meld", "label": "joy", "text": f"Hip hip! {number}"}
            body = {"demonstrations": [shown]}
            request = Asked("POST", "/demonstrations", body, f"show-{number}")
            self.shown.append(request)
            await request.send(client)
            await asyncio.sleep(0.2)

    async def follow(self, client: httpx.AsyncClient, last: str | None = None) -> None:
        """Read the followed dialogue's events from where the last stream broke off.

        Args:
            last: the id of the event to stop at; by default the stream is read until it breaks.
        """
        while not self.events:  # the dialogue may not have begun
            if await self._follow(client, last):
                return
            await asyncio.sleep(0.02)
        await self._follow(client, last)

    async def _follow(self, client: httpx.AsyncClient, last: str | None) -> bool:
        """Whether the stream was opened, or never will be."""
        known = {"Last-Event-ID": self.events[-1][0]} if self.events else {}
        path = f"/dialogues/{FOLLOWED}/events"
        try:
            async with client.stream("GET", path, headers=known) as stream:
                if stream.status_code != httpx.codes.OK:
                    return False
                async for event in events_of(stream):
                    self.events.append(event)
                    if self.corrected and self.erased:
                        self.begun.set()
                    if event[0] == last:
                        return True
        except httpx.TransportError:
            pass
        return True


def remarks(dialogue: int) -> list[dict[str, str]]:
    """Six that no other dialogue has: what has been asked already is no work."""
    return [{"speaker": f"S{n % 2}", "text": f"{REMARKS[n % 4]} {dialogue}, {n}"} for n in range(6)]


def utterance(dialogue: str, number: int) -> Asked:
    body = {
        "speaker": f"S{number % 3}",
        "text": f"{REMARKS[number % 4]} {number}",
        "label_space": "meld",
    }
    key = f"say-{number}" if number % 3 else None
    return Asked("POST", f"/dialogues/{dialogue}/utterances", body, key)


async def events_of(stream: httpx.Response) -> AsyncIterator[tuple[str, str, Any]]:
    """Server-sent events: id, name and data. One that is cut off is none."""
    fields: dict[str, str] = {}
    async for line in stream.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            if "data" in fields:
                yield fields["id"], fields["event"], json.loads(fields["data"])
            fields = {}
