"""The application as HTTP sees it: routes, problems, middleware, documentation."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware

from service.admission.door import Door
from service.api.head_method import HeadAsGet
from service.api.middleware.admission import AdmittedRequests
from service.api.middleware.auth import BEARER, Access, KnownCallers
from service.api.middleware.body_limits import LimitedBody
from service.api.middleware.cross_origin import SharedWithOrigins
from service.api.middleware.failures import AnsweredFailures
from service.api.middleware.forwarded import DIRECT, ForwardedRequests, Front
from service.api.middleware.head_limits import BoundedHeads
from service.api.middleware.hosts import AddressedRequests
from service.api.middleware.request_ids import RequestIds
from service.api.middleware.security_headers import SecurityHeaders
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
    jobs,
    label_spaces,
    operations,
    problems,
)
from service.api.services import State
from service.observability.metrics import Metrics
from service.settings import Limits

if TYPE_CHECKING:
    from service.observability.opentelemetry import Traces

_DESCRIPTION = """\
Reads a conversation as it happens and says, for each utterance, what emotion it carries.

Post the utterances of a dialogue one by one; each answer takes those before it into account.
Errors are [problem documents](https://www.rfc-editor.org/rfc/rfc9457) with the media type
`application/problem+json`; at the `type` of one, a path of this service, its cause and remedy are.
Any request may be answered with `bad-request`, `head-too-large`, `misdirected-request`,
`cross-site-request`, `no-such-path`, `method-not-allowed` or, where the service is at fault,
`internal-error`; `client-left` is only counted.
Every answer carries an `X-Request-Id`: yours, if you sent one. `HEAD` is answered wherever `GET`
is, with the same head.

Where the service has keys, each call needs one, `Authorization: Bearer KEY`, which acts for its
tenant: what is another tenant's is not found. A key may have a quota, beyond which the answer is
429 with `Retry-After`; `RateLimit-Remaining` says how many requests are left.

There is room for so many requests at once: one too many is answered with 503, and one that is not
done in time with 504, both with `Retry-After`; `Prefer: wait=5` asks for an answer in 5 seconds.
A client that closes its connection ends what is under way for it; an utterance that was already
being stored is stored.
"""

_TAGS = [
    {"name": "dialogues", "description": "Dialogues that are kept, a turn at a time."},
    {"name": "batch", "description": "Whole dialogues at once; nothing is kept."},
    {"name": "jobs", "description": "Batches that are scored while nobody waits."},
    {"name": "demonstrations", "description": "Labelled utterances that the model is shown."},
    {"name": "label spaces", "description": "Which labels there are."},
    {"name": "problems", "description": "What refusals mean, and what to do then."},
    {"name": "operations", "description": "For those who run the service."},
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
) -> FastAPI:
    """Put the application together; nothing is opened yet.

    Args:
        lifespan: opens the parts and yields them.
        limits: of which only the body's is kept here; the others come with the services.
        version: of the service, for its documentation.
        door: admits requests.
        access: who may ask for what.
        metrics: count requests and problems.
        traces: where requests are to have spans.
        front: what stands between clients and the service.

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
    for part in (dialogues, events, batch, jobs, demonstrations, label_spaces):
        app.include_router(part.router, dependencies=[Depends(BEARER)])
    app.include_router(problems.router)
    app.include_router(docs_page.router)
    app.include_router(operations.router)
    app.user_middleware = [  # from the outside in
        Middleware(ForwardedRequests, front=front),
        Middleware(RoutePolicies, policies=Policies(app.routes)),
        Middleware(RequestIds),
        Middleware(SecurityHeaders),
        *tracing,
        Middleware(CountedRequests, metrics=metrics),
        *sharing,  # around all that answer
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
