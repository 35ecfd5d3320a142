"""Routes for operators: liveness, readiness, metrics."""

import asyncio
import math
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import REGISTRY

from service.access.keys import Scope
from service.api.bodies.json_bodies import json_response
from service.api.middleware.auth import BEARER
from service.api.policies import policy
from service.api.problems.answers import documented, problem_response
from service.api.problems.kinds import KEY_PROBLEMS, NOT_ALIVE, NOT_READY
from service.api.schemas.operations import Alive, Ready
from service.api.services import Services, ServicesDep
from service.errors import ServiceError, Unavailable
from service.observability.exposition import exposition
from service.recognition.result import DEGRADED_DEMONSTRATIONS
from service.sessions.jobs import JobState

router = APIRouter(tags=["operations"])

_OK = "ok"
_OPTIONAL = (DEGRADED_DEMONSTRATIONS,)
_CHECK_S = 2.0
# A dialogue counts as open for this time after its last write.
_OPEN = timedelta(minutes=5)


@router.get("/livez", response_model=Alive, responses=documented(NOT_ALIVE))
@policy(None, priority=None)
async def livez(request: Request, services: ServicesDep) -> Response:
    """Whether the process makes progress; if the response is not 200, restart it.

    A label engine that has died or hung for long recovers only in a new process.
    """
    lost = services.engine.lost
    if lost is not None:
        return problem_response(request.state.request_id, NOT_ALIVE, lost)
    return json_response(
        {
            "status": "alive",
            "event_loop_lag_s": round(services.lag.last_s, 4),
            "engine_silent_s": round(services.engine.silent_s, 2),
        }
    )


@router.get("/readyz", response_model=Ready, responses=documented(NOT_READY))
@policy(None, priority=None)
async def readyz(request: Request, services: ServicesDep) -> Response:
    """Whether the service accepts requests: engine and database respond, and it does not shut down.

    Without demonstrations it is still ready, and lists them under `degraded`. The engine counts as
    available if it answered a request or a probe of one token within the last seconds.
    """
    parts = {
        "engine": services.engine.check(),
        "database": services.sessions.ping(),
        "demonstrations": services.store.ping(),
    }
    checks = dict(zip(parts, await asyncio.gather(*map(_check, parts.values())), strict=True))
    unavailable = [part for part, status in checks.items() if status != _OK]
    missing = [part for part in unavailable if part not in _OPTIONAL]
    if services.door.draining:
        missing = ["the service is shutting down"]
    if missing:
        request_id = request.state.request_id
        return problem_response(request_id, NOT_READY, ", ".join(missing), checks=checks)
    return json_response({"status": "ready", "checks": checks, "degraded": unavailable})


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={
        200: {
            "description": "The metrics",
            "content": {"application/openmetrics-text": {"schema": {"type": "string"}}},
        },
        **documented(*KEY_PROBLEMS),
    },
    dependencies=[Depends(BEARER)],
)
@policy(Scope.ADMIN, priority=None, is_operation=True)
async def metrics(request: Request, services: ServicesDep) -> Response:
    """Metrics for Prometheus: the service's own, Python's and vLLM's.

    In the format that `Accept` names, Prometheus' text or OpenMetrics, which has exemplars.

    Requires a key with the scope `admin`, unless `ERC_OPEN_OPERATIONS` is set or only this machine
    can reach the service.
    """
    await _count_stored(services)
    # vLLM registers its metrics in the library's default registry, beside Python's.
    text, media_type = await exposition(
        request.headers.get("accept", ""), services.metrics.registry, REGISTRY
    )
    return Response(text, media_type=media_type)


async def _count_stored(services: Services) -> None:
    """Count rows of the database; the gauges are NaN while it is unavailable."""
    metrics = services.metrics
    sessions, since = services.sessions, datetime.now(UTC) - _OPEN
    jobs: dict[JobState, float] = dict.fromkeys(JobState, math.nan)
    dialogues = deliveries = webhooks = oldest_s = math.nan
    with suppress(ServiceError, TimeoutError):
        async with asyncio.timeout(_CHECK_S):
            counts = await services.jobs.counts()
            dialogues = await sessions.count_changed_since(since)
            deliveries = await sessions.deliveries.count()
            pending = await sessions.webhooks.pending()
            webhooks, oldest_s = pending.count, pending.oldest_s(datetime.now(UTC))
            jobs.update(counts)
    for state, count in jobs.items():
        metrics.jobs.labels(state).set(count)
    metrics.dialogues_open.set(dialogues)
    metrics.deliveries_pending.set(deliveries)
    metrics.webhooks_pending.set(webhooks)
    metrics.webhooks_oldest_seconds.set(oldest_s)


async def _check(ping: Awaitable[None]) -> str:
    try:
        async with asyncio.timeout(_CHECK_S):
            await ping
    except TimeoutError:
        return f"no answer in {_CHECK_S:g} s"
    except Unavailable as error:
        return str(error)
    return _OK
