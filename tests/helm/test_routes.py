"""What is led to the service from outside is its API, and not its operation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.api.auth import Access
from service.api.http import build_api
from service.settings import Admission, Limits
from tests.helm.rendering import installation, the

INSIDE = {"/livez", "/readyz", "/metrics"}


@pytest.fixture(scope="module")
def routes() -> set[str]:
    """Paths of the service, documentation included."""

    @asynccontextmanager
    async def closed(app: Any) -> AsyncIterator[Any]:
        yield {}

    api = build_api(closed, Limits(), "0", Admission(), Access(None, True), share=1.0)
    return {*api.openapi()["paths"], "/docs", api.openapi_url}


def led_outside() -> dict[str, list[str]]:
    ingress = the(installation("production"), "Ingress")["spec"]["rules"][0]["http"]["paths"]
    route = the(installation("scaled by KEDA, behind a gateway"), "HTTPRoute")["spec"]["rules"][0]
    return {
        "ingress": [path["path"] for path in ingress],
        "gateway": [match["path"]["value"] for match in route["matches"]],
    }


@pytest.mark.parametrize("kind", ["ingress", "gateway"])
def test_every_route_of_the_api_is_led_outside(routes: set[str], kind: str) -> None:
    """A new one cannot be forgotten, and none is led to that there is not."""
    prefixes = led_outside()[kind]

    covered = {path for path in routes if any(f"{path}/".startswith(f"{p}/") for p in prefixes)}

    assert covered == routes - INSIDE
    assert all(any(f"{path}/".startswith(f"{p}/") for path in routes) for p in prefixes)


def test_streams_are_not_cut(routes: set[str]) -> None:
    """The route sets no time: events are followed for hours."""
    (rule,) = the(installation("scaled by KEDA, behind a gateway"), "HTTPRoute")["spec"]["rules"]

    assert rule["timeouts"] == {"request": "0s"}
