"""The service on vLLM's own servers: two of them, with and without a router before them."""

import asyncio
import itertools
import json
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from service.conversation.dialogue import Line
from service.conversation.labels import Label, LabelSpace, load_label_spaces
from service.conversation.prompts.tokens import fit
from service.decoding.bundle import load_bundle
from service.decoding.engine import LabelEngine, reading_dialogue
from service.decoding.fingerprint import question_of
from service.decoding.in_process import EngineOptions, start_engine
from service.decoding.remote import RemoteOptions, open_remote
from service.decoding.scoring import plan_reading, score_labels
from service.decoding.server_check import ServerCheck, WrongServer
from service.decoding.tokenizer import load_tokenizer
from service.priority import Priority
from tests.clock import PATIENT_S
from tests.e2e.conftest import BUNDLE, REPOSITORY, Service, environment
from tests.e2e.vllm_servers import KEY, Process, running, vllm_router, vllm_server

SPACES = load_label_spaces(REPOSITORY / "data" / "label_spaces")
DESCRIPTION = load_bundle(BUNDLE, SPACES)
TOKENIZER = load_tokenizer(BUNDLE)
MELD = SPACES["meld"]
READING = plan_reading(MELD, DESCRIPTION.prompt_template, TOKENIZER.encode, TOKENIZER.end)
# Labels that begin alike are read whole, in several prompts.
ALIKE = tuple(Label(word, word, word) for word in ("joyful", "joyfully", "sad", "angry"))
WHOLE = plan_reading(
    LabelSpace("made", "Made up", ALIKE),
    DESCRIPTION.prompt_template,
    TOKENIZER.encode,
    TOKENIZER.end,
)
CHECK = ServerCheck(DESCRIPTION, "erc-mini", question_of(DESCRIPTION, TOKENIZER))
# So few that no server has more to do than it may: what it passes on is not in a cache.
DIALOGUES, TURNS = 24, 12
# Two labels this near to each other change places with the last digits.
NEAR_TIE = 0.02


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    folder = tmp_path_factory.mktemp("servers")
    pair = [vllm_server(folder), vllm_server(folder)]
    with running(*pair):
        yield pair


def dialogues() -> list[list[Line]]:
    """Drawn from the shipped demonstrations, seed 11."""
    rows = (REPOSITORY / "data" / "demonstrations.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(row)["text"] for row in rows]
    random = Random(11)
    return [
        [Line(random.randrange(2), random.choice(texts)) for _ in range(TURNS)]
        for _ in range(DIALOGUES)
    ]


@dataclass
class Read:
    """What an engine reads of the dialogues.

    Attributes:
        distributions: of each turn, without calibration.
        tokens, cached_tokens: of all prompts.
    """

    distributions: list[NDArray[np.float64]] = field(default_factory=list)
    tokens: int = 0
    cached_tokens: int = 0

    @property
    def cached_share(self) -> float:
        return self.cached_tokens / self.tokens


async def read_all(engine: LabelEngine, salt: str) -> Read:
    """Read the dialogues side by side, each turn after the one before it.

    Args:
        salt: keeps them apart from what the engine has read before.
    """

    async def read(number: int, lines: Sequence[Line]) -> Read:
        read = Read()
        reading = READING if number % 8 else WHOLE
        for turn in range(len(lines)):
            prompt = fit(
                DESCRIPTION.prompt_template,
                MELD,
                DESCRIPTION.history_window,
                lines[: turn + 1],
                (),
                encode=TOKENIZER.encode,
                starts=TOKENIZER.starts,
                begin=TOKENIZER.begin,
                limit=DESCRIPTION.max_tokens - 1,
            ).ids
            with reading_dialogue(None, f"call-{number}"):
                scores = await score_labels(
                    engine, reading, prompt, Priority.INTERACTIVE, salt=salt
                )
            likely = np.exp(scores.log_probabilities)
            assert scores.cached_tokens is not None
            read.distributions.append(likely / likely.sum())
            read.tokens += len(prompt)
            read.cached_tokens += scores.cached_tokens
        return read

    parts = await asyncio.gather(*(read(n, lines) for n, lines in enumerate(dialogues())))
    return Read(
        [each for part in parts for each in part.distributions],
        sum(part.tokens for part in parts),
        sum(part.cached_tokens for part in parts),
    )


@pytest.fixture(scope="module")
def in_process() -> Read:
    """What vLLM reads in this process."""

    async def read() -> Read:
        engine = await start_engine(
            BUNDLE, max_tokens=DESCRIPTION.max_tokens, options=EngineOptions(max_sequences=32)
        )
        try:
            return await read_all(engine, "in process")
        finally:
            await engine.close()

    return asyncio.run(read())


@asynccontextmanager
async def remote(*urls: str) -> AsyncIterator[LabelEngine]:
    options = RemoteOptions(urls=urls, model="erc-mini", api_key=KEY, hash_key="key")
    engine = await open_remote(options, CHECK)
    try:
        yield engine
    finally:
        await engine.close()


def compare(found: Read, expected: Read) -> None:
    """99.5% of the labels are equal, and the cache does 95% of what it does in one engine."""
    same = [
        one.argmax() == two.argmax()
        for one, two in zip(found.distributions, expected.distributions, strict=True)
        if np.subtract(*np.sort(two)[:-3:-1]) > NEAR_TIE
    ]
    print(
        f"{np.mean(same):.2%} of {len(same)} labels are equal; cached share "
        f"{found.cached_share:.3f}, in process {expected.cached_share:.3f}"
    )
    assert len(same) > 0.9 * DIALOGUES * TURNS
    assert np.mean(same) >= 0.995
    assert found.cached_share >= 0.95 * expected.cached_share


async def test_two_servers_read_as_vllm_in_this_process_does(
    servers: list[Process], in_process: Read
) -> None:
    async with remote(*(server.url for server in servers)) as engine:
        compare(await read_all(engine, "two servers"), in_process)


async def test_a_router_before_them_keeps_dialogues_with_their_server(
    servers: list[Process], in_process: Read, tmp_path: Path
) -> None:
    """By the header; it sends some to each."""
    router = vllm_router(tmp_path, [server.url for server in servers])
    before = [answered_by(server) for server in servers]
    with running(router):
        async with remote(router.url) as engine:
            compare(await read_all(engine, "router"), in_process)

    assert all(answered_by(server) > n for server, n in zip(servers, before, strict=True))


async def test_a_server_of_another_model_is_refused(servers: list[Process], tmp_path: Path) -> None:
    """As when it was started on another bundle than the service."""
    other = DESCRIPTION.model_copy(
        update={
            "fingerprint": DESCRIPTION.fingerprint
            and DESCRIPTION.fingerprint.model_copy(
                update={"log_probabilities": DESCRIPTION.fingerprint.log_probabilities[::-1]}
            )
        }
    )
    options = RemoteOptions(urls=(servers[0].url,), model="erc-mini", api_key=KEY)

    with pytest.raises(WrongServer, match="has other weights than bundle erc-mini"):
        await open_remote(options, replace(CHECK, bundle=other))
    with pytest.raises(WrongServer, match="--served-model-name erc-large"):
        await open_remote(replace(options, model="erc-large"), replace(CHECK, model="erc-large"))
    with pytest.raises(WrongServer, match="ERC_ENGINE__API_KEY"):
        await open_remote(replace(options, api_key="another"), CHECK)


async def test_a_cancelled_read_ends_in_the_server(servers: list[Process]) -> None:
    """It reads no prompt that nobody waits for, but for those that it had begun."""
    server = servers[0]
    before = prompt_tokens(server)
    async with remote(server.url) as engine:
        reads = [
            asyncio.create_task(
                engine.read(list(range(n, n + 500)), [1, 2], Priority.BATCH, salt="cancelled")
            )
            for n in range(2000, 2060)
        ]
        await asyncio.sleep(0.3)
        for read in reads:
            read.cancel()
        await asyncio.wait(reads)
        answered = sum(not read.cancelled() for read in reads)
    deadline = time.monotonic() + PATIENT_S
    while under_way(server) and time.monotonic() < deadline:  # noqa: ASYNC110, in another process
        await asyncio.sleep(0.2)

    done = (prompt_tokens(server) - before) / 500
    print(f"{answered} of {len(reads)} reads were answered, {done:.0f} were done")
    assert under_way(server) == 0
    assert done < len(reads) / 2


def numbers(url: str, **headers: str) -> list[Sample]:
    """The series of a process's /metrics."""
    text = httpx.get(f"{url}/metrics", headers=headers, timeout=60).text
    return [each for family in text_string_to_metric_families(text) for each in family.samples]


def sum_of(server: Process, *names: str) -> float:
    return sum(each.value for each in numbers(server.url) if each.name in names)


def answered_by(server: Process) -> float:
    return sum_of(server, "vllm:request_success_total")


def prompt_tokens(server: Process) -> float:
    return sum_of(server, "vllm:prompt_tokens_total")


def under_way(server: Process) -> float:
    return sum_of(server, "vllm:num_requests_running", "vllm:num_requests_waiting")


@pytest.fixture(scope="module")
def service(servers: list[Process], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that has no weights and cannot import vLLM."""
    folder = tmp_path_factory.mktemp("service")
    bundle = folder / "bundle"
    shutil.copytree(BUNDLE, bundle, ignore=shutil.ignore_patterns("*.safetensors"))
    forbidding = folder / "forbidding"
    forbidding.mkdir()
    # Python imports it before anything else.
    (forbidding / "sitecustomize.py").write_text(_FORBIDS_VLLM)
    running = Service(
        folder,
        environment(folder)
        | {
            "ERC_BUNDLE": str(bundle),
            "ERC_ENGINE__URLS": ",".join(server.url for server in servers),
            "ERC_ENGINE__API_KEY": KEY,
            "ERC_ENGINE__PROBE_AFTER_S": "1",
            "ERC_LOG_LEVEL": "warning",
            "PYTHONPATH": f"{forbidding}:{REPOSITORY}",
        },
    )
    running.start()
    yield running
    running.stop()


_FORBIDS_VLLM = """
import sys

class NoVllm:
    def find_spec(self, name, path=None, target=None):
        if name == "vllm" or name.startswith("vllm."):
            raise ImportError("this process must do without vLLM")

sys.meta_path.insert(0, NoVllm())
"""


def available(service: Service) -> list[bool]:
    """Whether each server is asked, in the order of their ports."""
    found = {
        each.labels["server"]: bool(each.value)
        for each in numbers(service.url)
        if each.name == "erc_engine_server_available"
    }
    return [found[name] for name in sorted(found)]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.2)


@dataclass
class Talk:
    """Dialogues that go on, each turn after the answer to the one before it.

    Attributes:
        name: in front of their ids.
        acknowledged: texts that were answered with 201, by dialogue.
        refused: the status of other answers.
    """

    service: Service
    name: str
    acknowledged: dict[str, list[str]] = field(default_factory=dict)
    refused: list[int] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Talk":
        self._threads = ThreadPoolExecutor(8)
        self._talking = [self._threads.submit(self._talk, n) for n in range(8)]
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for talking in self._talking:
            talking.result()
        self._threads.shutdown()

    @property
    def turns(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def _talk(self, number: int) -> None:
        random = Random(number)
        with httpx.Client(base_url=self.service.url, timeout=60) as client:
            for turn in itertools.count():
                if self.ended.is_set():
                    return
                dialogue = f"{self.name}-{number}-{turn // 12}"
                text = f"This is turn {turn}, {random.random()}."
                answer = client.post(
                    f"/dialogues/{dialogue}/utterances", json={"speaker": "Ann", "text": text}
                )
                if answer.status_code == 201:
                    self.acknowledged.setdefault(dialogue, []).append(text)
                else:
                    self.refused.append(answer.status_code)

    def check_nothing_is_lost(self) -> None:
        for dialogue, texts in self.acknowledged.items():
            timeline = self.service.client.get(f"/dialogues/{dialogue}").json()
            assert [each["text"] for each in timeline["utterances"]] == texts

    def goes_on(self, turns: int = 30) -> None:
        """Wait for so many more turns."""
        target = self.turns + turns
        eventually(lambda: self.turns >= target)


def test_a_server_that_is_killed_under_load_fails_no_turn(
    service: Service, servers: list[Process]
) -> None:
    """What it was reading is read by the other; when it is back, it is asked again."""
    with Talk(service, "killed") as talk:
        talk.goes_on()
        servers[0].kill()
        talk.goes_on(60)
        assert sorted(available(service)) == [False, True]
        ready = httpx.get(f"{service.url}/readyz")
        servers[0].start()
        eventually(lambda: all(available(service)))
        talk.goes_on()

    print(f"{talk.turns} turns, refused: {talk.refused}")
    assert ready.status_code == 200
    assert talk.refused == []
    talk.check_nothing_is_lost()


def test_servers_that_are_replaced_one_by_one_fail_no_turn(
    service: Service, servers: list[Process]
) -> None:
    """As Kubernetes does: it asks one to end, and waits for its successor."""
    with Talk(service, "rolled") as talk:
        for server in servers:
            talk.goes_on()
            server.stop()
            talk.goes_on()
            server.start()
            eventually(lambda: all(available(service)))
        talk.goes_on()

    print(f"{talk.turns} turns, refused: {talk.refused}")
    assert talk.refused == []
    talk.check_nothing_is_lost()


def test_without_any_server_it_is_not_ready_and_with_one_it_is_again(
    service: Service, servers: list[Process]
) -> None:
    """The service itself goes on."""
    for server in servers:
        server.kill()
    answer = service.client.post(
        "/dialogues/unread/utterances", json={"speaker": "Ann", "text": "Anybody there?"}
    )
    eventually(lambda: not any(available(service)))
    ready, alive = (httpx.get(f"{service.url}/{path}") for path in ("readyz", "livez"))
    servers[1].start()
    eventually(lambda: httpx.get(f"{service.url}/readyz").status_code == 200)

    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/engine-unavailable"
    assert (ready.status_code, alive.status_code) == (503, 200)
    # No server's address is told to whoever asks.
    assert "127.0.0.1" not in answer.text + ready.text
    assert service.say("unread", "Ann", "Anybody there?")["index"] == 0
