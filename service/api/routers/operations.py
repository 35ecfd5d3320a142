"""What an operator's machinery asks: is it alive, is it ready, what does it count."""

import asyncio
from collections.abc import Awaitable

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from service.api.bodies import json_answer
from service.api.problems import NOT_READY, documented, problem_answer
from service.api.schemas import Alive, Ready
from service.api.services import MetricsDep, ServicesDep
from service.errors import Unavailable

router = APIRouter(tags=["operations"])

_WELL = "ok"


@router.get("/livez", response_model=Alive)
async def livez() -> Response:
    """Whether the process makes progress; a service that does not answer should be restarted."""
    return json_answer({"status": "alive"})


@router.get("/readyz", response_model=Ready, responses=documented(NOT_READY))
async def readyz(request: Request, services: ServicesDep) -> Response:
    """Whether every part answers, so that the service should be given requests."""
    parts = {
        "engine": services.engine.check(),
        "database": services.sessions.ping(),
        "demonstrations": services.store.ping(),
    }
    checks = dict(zip(parts, await asyncio.gather(*map(_check, parts.values())), strict=True))
    away = [part for part, found in checks.items() if found != _WELL]
    if away:
        request_id = request.state.request_id
        return problem_answer(request_id, NOT_READY, ", ".join(away), checks=checks)
    return json_answer({"status": "ready", "checks": checks})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(services: ServicesDep, metrics: MetricsDep) -> Response:
    """Numbers for Prometheus: the service's own, Python's and vLLM's."""
    bundle = services.recognizer.bundle
    metrics.show_bundle(bundle.name, bundle.version, bundle.template)
    # vLLM keeps its numbers in the library's own registry, beside Python's.
    text = generate_latest(metrics.registry) + generate_latest(REGISTRY)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def _check(answer: Awaitable[None]) -> str:
    try:
        await answer
    except Unavailable as error:
        return str(error)
    return _WELL
