"""The FastAPI application: routes, middleware, problems, documentation."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware

from service.admission.door import Door
from service.api.middleware.addressing import DIRECT, AddressedRequests, ForwardedRequests, Front
from service.api.middleware.admission import AdmittedRequests
from service.api.middleware.auth import BEARER, Access, KnownCallers
from service.api.middleware.cross_origin import SharedWithOrigins
from service.api.middleware.responses import AnsweredFailures, CommonHeaders, HeadAsGet
from service.api.middleware.sizes import BoundedHeads, LimitedBody
from service.api.middleware.telemetry import CountedRequests, TracedRequests
from service.api.openapi_document import DocumentedApi
from service.api.policies import Policies, RoutePolicies
from service.api.problems.answers import HANDLERS
from service.api.problems.kinds import KINDS
from service.api.routers import (
    batch,
    demonstrations,
    dialogues,
    docs_page,
    events,
    explanations,
    jobs,
    label_spaces,
    operations,
    overviews,
    problems,
    reviews,
    transcripts,
    utterances,
)
from service.api.services import State
from service.observability.metrics import Metrics
from service.settings import Limits

if TYPE_CHECKING:
    from service.observability.opentelemetry import Traces

_DESCRIPTION = """\
Reads a conversation as it happens and says, for each utterance, what emotion it carries.

Post the utterances of a dialogue one by one; each response takes the earlier ones into account.
Errors are [problem documents](https://www.rfc-editor.org/rfc/rfc9457) with the media type
`application/problem+json`; `type` links to cause and remedy.
Any request may be answered with `bad-request`, `head-too-large`, `misdirected-request`,
`cross-site-request`, `no-such-path`, `method-not-allowed` or, where the service is at fault,
`internal-error`; `client-left` is only counted.
Every response carries an `X-Request-Id`: yours, if you sent one. `HEAD` is supported wherever
`GET` is, with the same headers.

Where the service has keys, each call requires one, `Authorization: Bearer KEY`, which acts for its
tenant: resources of another tenant are not found. A key may have a quota; beyond it the response is
429 with `Retry-After`, and `RateLimit-Remaining` says how many requests are left.

The number of concurrent requests is limited: one too many is answered with 503, and one that
misses its deadline with 504, both with `Retry-After`; `Prefer: wait=5` asks for a response within
5 seconds. A client that closes its connection cancels its request; an utterance that is already
being stored is stored.
"""

_TAGS = [
    {"name": "dialogues", "description": "Stored dialogues, one utterance at a time."},
    {"name": "batch", "description": "Whole dialogues at once; nothing is stored."},
    {"name": "jobs", "description": "Batches that are scored in the background."},
    {"name": "demonstrations", "description": "Labelled utterances that the model is shown."},
    {"name": "label spaces", "description": "The labels that predictions can use."},
    {"name": "problems", "description": "What each problem means and what to do about it."},
    {"name": "operations", "description": "For operators of the service."},
]


def build_api(
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[State]],
    limits: Limits,
    version: str,
    door: Door,
    access: Access,
    metrics: Metrics,
    traces: "Traces | None" = None,
    *,
    front: Front = DIRECT,
    pages: Sequence[APIRouter] = (),
) -> FastAPI:
    """Build the application without opening anything.

    Args:
        lifespan: opens the parts and yields them.
        limits: only those on bodies are used here; the others come with the services.
        version: the service's version, for the documentation.
        door: admits requests.
        access: who may call what.
        metrics: count requests and problems.
        traces: records spans of requests, if set.
        front: what is between clients and the service.
        pages: further routes, which the documentation leaves out.

    Raises:
        ValueError: a route declares no policy.
    """
    metrics.show_problems(kind.type for kind in KINDS.values())
    tracing = [] if traces is None else [Middleware(TracedRequests, traces=traces)]
    origins = access.origins
    sharing = [Middleware(SharedWithOrigins, origins=origins)] if origins else []
    app = DocumentedApi(
        title="InstructERC",
        summary="Emotion recognition in conversation",
        description=_DESCRIPTION,
        version=version,
        lifespan=lifespan,
        openapi_tags=_TAGS,
        generate_unique_id_function=_operation_id,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=HANDLERS,
    )
    for part in (
        utterances,
        dialogues,
        explanations,
        overviews,
        reviews,
        events,
        batch,
        transcripts,
        jobs,
        demonstrations,
        label_spaces,
    ):
        app.include_router(part.router, dependencies=[Depends(BEARER)])
    app.include_router(problems.router)
    app.include_router(docs_page.router)
    app.include_router(operations.router)
    for router in pages:
        app.include_router(router)
    app.user_middleware = [  # from the outside in
        Middleware(ForwardedRequests, front=front),
        Middleware(RoutePolicies, policies=Policies(app.routes)),
        Middleware(CommonHeaders),
        *tracing,
        Middleware(CountedRequests, metrics=metrics),
        *sharing,  # around every layer that responds
        Middleware(AnsweredFailures),
        Middleware(BoundedHeads),
        Middleware(
            AddressedRequests,
            hosts=access.hosts,
            origins=origins,
            count=metrics.count_rejection,
            anonymous=access.keyring is None,
        ),
        Middleware(KnownCallers, access=access, count=metrics.count_rejection),
        Middleware(AdmittedRequests, door=door),
        Middleware(
            LimitedBody,
            most_bytes=limits.body_bytes,
            most_bytes_of_lines=limits.lines_bytes,
        ),
        Middleware(HeadAsGet),
    ]
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
