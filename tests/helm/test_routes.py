"""What is led to the service from outside is its API, and not its operation."""

import pytest

from service.app import create_app
from service.settings import Settings
from tests.helm.rendering import installation, render, the, variables

INSIDE = {"/livez", "/readyz", "/metrics"}


@pytest.fixture(scope="module")
def routes() -> set[str]:
    """Paths of the service, documentation included."""
    api = create_app(Settings()).api
    return {*api.openapi()["paths"], "/docs", "/console", api.openapi_url}


def led_outside() -> dict[str, list[str]]:
    ingress = the(installation("production"), "Ingress")["spec"]["rules"][0]["http"]["paths"]
    route = the(installation("scaled by KEDA, behind a gateway"), "HTTPRoute")["spec"]["rules"][0]
    return {
        "ingress": [path["path"] for path in ingress],
        "gateway": [match["path"]["value"].removeprefix("/emotions") for match in route["matches"]],
    }


def test_below_a_path_the_service_knows_it_and_probes_do_without() -> None:
    """Nothing on the way has to take it away: the service answers with it and without."""
    values = {
        "keys": {"anonymous": True},
        "pathPrefix": "/v1/emotions",
        "ingress": {"enabled": True, "host": "erc.example"},
        "gateway": {"enabled": True, "host": "erc.example", "parents": [{"name": "public"}]},
    }
    manifests = tuple(render(values))
    ingress = the(manifests, "Ingress")["spec"]["rules"][0]["http"]["paths"]
    route = the(manifests, "HTTPRoute")["spec"]["rules"][0]
    (container,) = the(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]

    led = [path["path"] for path in ingress]
    assert led == [match["path"]["value"] for match in route["matches"]]
    assert all(path.startswith("/v1/emotions/") for path in led)
    assert "filters" not in route
    assert variables(container)["ERC_ROOT_PATH"] == "/v1/emotions"
    assert {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness")} == {
        "/livez"
    }
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


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
