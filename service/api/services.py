"""Dependencies of the routes: the open parts of the service, the caller, the tenant."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypedDict, cast

from fastapi import Depends, Request

from service.access.callers import Caller
from service.admission.door import Door
from service.admission.places import Places
from service.concurrency import NamedLocks
from service.conversation.labels import LabelSpace
from service.decoding.engine import WatchableEngine
from service.demonstrations.encoder import Encoder
from service.demonstrations.store import DemonstrationStore
from service.dialogues.corrections import Corrector
from service.dialogues.explanations import Explainer
from service.dialogues.own_label_spaces import OwnLabelSpaces
from service.dialogues.summaries import Summarizer
from service.dialogues.turns import TurnTaker
from service.errors import DemonstrationsUnavailable
from service.observability.event_loop import LoopLag
from service.observability.metrics import Metrics
from service.recognition.answering import Answerer
from service.recognition.document import shown_in, with_texts
from service.sessions.events import Events
from service.sessions.jobs import Jobs
from service.sessions.store import SessionStore
from service.settings import Limits

# A timeline is useful without these texts, too.
_LOOKUP_S = 1.0
# Read at once, of clients that have left, too: other work of the process needs threads as well.
_TRANSCRIPTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The open parts of the service.

    Attributes:
        label_spaces: every one that a model can be trained on, by name; the bundle may be trained
            on fewer.
        places: for the utterances in progress, over all requests.
        keys: locks of idempotency keys: requests with the same key run one at a time.
        transcript_threads: places of threads that read transcripts.
    """

    turns: TurnTaker
    corrector: Corrector
    answerer: Answerer
    explainer: Explainer
    summarizer: Summarizer
    own_label_spaces: OwnLabelSpaces
    sessions: SessionStore
    events: Events
    jobs: Jobs
    store: DemonstrationStore
    encoder: Encoder
    engine: WatchableEngine
    label_spaces: Mapping[str, LabelSpace]
    limits: Limits
    places: Places
    door: Door
    metrics: Metrics
    lag: LoopLag
    keys: NamedLocks
    transcript_threads: asyncio.Semaphore = field(
        default_factory=partial(asyncio.Semaphore, _TRANSCRIPTS)
    )

    async def with_texts(
        self, stored: Sequence[Mapping[str, Any]], tenant: str
    ) -> list[dict[str, Any]]:
        """Add the texts of demonstrations to stored documents.

        A text that no longer exists is left out; while the store is unavailable, all are.
        """
        shown = {demonstration["id"] for document in stored for demonstration in shown_in(document)}
        texts: Mapping[str, str] = {}
        if shown:
            with suppress(DemonstrationsUnavailable, TimeoutError):
                async with asyncio.timeout(_LOOKUP_S):
                    texts = await self.store.texts(shown, tenant)
        return [with_texts(document, texts) for document in stored]


class State(TypedDict):
    """The state that the lifespan yields."""

    services: Services


# `async` although they await nothing: FastAPI runs plain functions in a thread pool.


async def _services(request: Request) -> Services:
    return cast(Services, request.state.services)


async def _caller(request: Request) -> Caller:
    return cast(Caller, request.state.caller)


CallerDep = Annotated[Caller, Depends(_caller)]


async def tenant(caller: CallerDep) -> str:
    """The tenant whose data a request may use: its caller's."""
    return caller.tenant


ServicesDep = Annotated[Services, Depends(_services)]
TenantDep = Annotated[str, Depends(tenant)]
