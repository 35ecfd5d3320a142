"""People who talk, ask what comes next, correct, score batches and ask for what there is not.

Who talks and how long is MELD's, what they say is this project's own (`tests.bench.shape`); what
they say of predictions is drawn by lot.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import httpx
import orjson

from service.conversation.dialogue import Dialogue
from tests.bench.shape import dialogues_of_shape, read_shape

_REPOSITORY = Path(__file__).resolve().parents[2]
_SPACES = ("unified", "unified", "meld", "emorynlp")
_CORRECTED = 0.15  # of the predictions
_AGREED = 0.7  # of those
_FORECAST = 0.1  # of the utterances, one of the same speaker to come
_MORE_THAN_THE_MODEL_READS = "?! " * 600


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many do what.

    Attributes:
        talks: conversations at once, in each of which a line is said when the last is answered.
        pause_s: between an answer and the next line, as a function of the seconds so far.
        batch_s, burst_s: between two batches, and two times that more of them come than may.
    """

    talks: int
    pause_s: Callable[[float], float]
    batch_s: float
    burst_s: float


def dialogues(seed: str) -> list[Dialogue]:
    """What is said; another seed, other words."""
    lines = (_REPOSITORY / "data" / "demonstrations.jsonl").read_text("utf-8").splitlines()
    return list(
        dialogues_of_shape(read_shape(), [orjson.loads(line)["text"] for line in lines], seed)
    )


async def converse(url: str, crowd: Crowd, seconds: float) -> None:
    """Put this load on a service.

    Raises:
        AssertionError: an answer is one that nobody should get.
    """
    limits = httpx.Limits(max_connections=200)
    async with (
        httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client,
        asyncio.TaskGroup() as group,
    ):
        load = _Load(client, crowd, time.monotonic(), seconds)
        followed = group.create_task(load.follow("talk-0-0"))
        group.create_task(load.stop_following(followed))
        for number in range(crowd.talks):
            group.create_task(load.talk(number))
        group.create_task(load.batches())
        group.create_task(load.bursts())
        group.create_task(load.mistakes())


@dataclass(frozen=True, slots=True)
class _Load:
    client: httpx.AsyncClient
    crowd: Crowd
    start: float
    seconds: float

    @property
    def so_far_s(self) -> float:
        return time.monotonic() - self.start

    @property
    def goes_on(self) -> bool:
        return self.so_far_s < self.seconds

    async def rest(self, seconds: float) -> None:
        """Do nothing for a while, but not beyond the end."""
        await asyncio.sleep(max(0.0, min(seconds, self.seconds - self.so_far_s)))

    async def talk(self, number: int) -> None:
        rng = random.Random(number)
        spoken = chain.from_iterable(dialogues(f"{number}-{n}") for n in range(100))
        for round_number, (dialogue, space) in enumerate(zip(spoken, cycle(_SPACES), strict=False)):
            path = f"/dialogues/talk-{number}-{round_number}/utterances"
            for index, utterance in enumerate(dialogue.utterances):
                if not self.goes_on:
                    return
                answer = await self.client.post(
                    path,
                    json={
                        "speaker": utterance.speaker,
                        "text": utterance.text,
                        "label_space": space,
                    },
                )
                if answer.status_code == 201 and rng.random() < _CORRECTED:
                    await self._correct(f"{path}/{index}/label", answer.json()["emotion"], rng)
                elif answer.status_code == 503:  # its index is another's from here on
                    break
                else:
                    assert answer.status_code == 201, answer.text
                if rng.random() < _FORECAST:
                    await self._forecast(path, utterance.speaker, space)
                await self.rest(self.crowd.pause_s(self.so_far_s) * rng.uniform(0.5, 1.5))

    async def _forecast(self, path: str, speaker: str, space: str) -> None:
        answer = await self.client.get(
            path.replace("/utterances", "/forecast"),
            params={"speaker": speaker, "label_space": space},
        )
        assert answer.status_code in (200, 503), answer.text

    async def _correct(self, path: str, emotion: dict[str, Any], rng: random.Random) -> None:
        label = emotion["label"]
        if rng.random() > _AGREED:
            label = rng.choice([other for other in emotion["probabilities"] if other != label])
        answer = await self.client.put(
            path, json={"label": label, "label_space": emotion["label_space"]}
        )
        assert answer.status_code in (200, 503), answer.text

    async def batches(self) -> None:
        for number in range(1000):
            if not self.goes_on:
                return
            await self._batch(f"batch-{number}", {} if number % 3 else {"Prefer": "respond-async"})
            await self.rest(self.crowd.batch_s)

    async def bursts(self) -> None:
        while self.goes_on:
            burst = (self._batch(f"burst-{n}", {}) for n in range(8))
            await asyncio.gather(*burst)
            await self.rest(self.crowd.burst_s)

    async def _batch(self, seed: str, headers: dict[str, str]) -> None:
        """One of the dialogues has an utterance longer than the model reads."""
        body = {
            "label_space": "unified",
            "dialogues": [
                {
                    "id": dialogue.id,
                    "utterances": [
                        {"speaker": utterance.speaker, "text": utterance.text}
                        for utterance in dialogue.utterances
                    ],
                }
                for dialogue in dialogues(seed)[:6]
            ]
            + [
                {
                    "id": "long",
                    "utterances": [{"speaker": "Ann", "text": _MORE_THAN_THE_MODEL_READS}],
                }
            ],
        }
        answer = await self.client.post("/batch", json=body, headers=headers)
        assert answer.status_code in (200, 202, 503), answer.text

    async def mistakes(self) -> None:
        while self.goes_on:
            statuses = [
                (await self.client.get("/dialogues/nobody-said-a-word")).status_code,
                (await self.client.get("/no-such-path")).status_code,
                (await self.client.post("/dialogues/a/utterances", json={})).status_code,
            ]
            assert statuses == [404, 404, 422]
            broken = await self.client.post(
                "/batch", content=b"{\n", headers={"Content-Type": "application/x-ndjson"}
            )
            assert broken.status_code in (200, 503), broken.text
            await self.rest(1)

    async def follow(self, dialogue_id: str) -> None:
        while self.goes_on:
            path = f"/dialogues/{dialogue_id}/events"
            async with self.client.stream("GET", path, timeout=None) as answer:
                async for _ in answer.aiter_bytes():
                    pass
            await asyncio.sleep(0.5)

    async def stop_following(self, followed: "asyncio.Task[None]") -> None:
        await asyncio.sleep(self.seconds)
        followed.cancel()
