"""A pod is started, asked, replaced and ended as the service means it."""

import pytest

from service.api.routers import operations
from service.api.routers.operations import _CHECK_S
from service.decoding.in_process import _SHUTDOWN_S
from service.draining import _LAST_ANSWERS_S
from service.settings import Admission
from tests.helm.rendering import (
    INSTALLATIONS,
    Manifest,
    installation,
    of_kind,
    render,
    the,
    variables,
)

UVICORN_S = 2.0  # its `timeout_graceful_shutdown`, see service.cli
ANYBODY = {"keys": {"anonymous": True}}


def serving(manifests: tuple[Manifest, ...]) -> tuple[Manifest, Manifest]:
    """The pod that serves, and its container."""
    pod = the(manifests, "Deployment")["spec"]["template"]["spec"]
    return pod, pod["containers"][0]


@pytest.mark.parametrize(
    "shutdown", [{}, {"preStopS": 1, "graceS": 1, "marginS": 10}, {"preStopS": 30, "graceS": 300}]
)
def test_a_pod_is_not_killed_before_it_has_ended(shutdown: dict[str, int]) -> None:
    """The pause, the drain, the last answers and the engine's end fit into the grace period."""
    pod, container = serving(tuple(render(ANYBODY | {"shutdown": shutdown})))
    pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_s = float(variables(container)["ERC_ADMISSION__GRACE_S"])

    needed_s = pause_s + drain_s + _LAST_ANSWERS_S + UVICORN_S + _SHUTDOWN_S

    assert pod["terminationGracePeriodSeconds"] > needed_s


def test_the_drain_is_the_service_s_own_by_default() -> None:
    """Whoever raises one of the two sees the other."""
    _, container = serving(installation("production"))

    assert float(variables(container)["ERC_ADMISSION__GRACE_S"]) == Admission().grace_s


def test_probes_ask_routes_that_there_are(manifests: tuple[Manifest, ...]) -> None:
    """Those that need no key; a start and a hang are asked another question than readiness."""
    _, container = serving(manifests)
    routes = {route.path for route in operations.router.routes}  # type: ignore[attr-defined]

    seconds = {
        name: container[name]["httpGet"]["path"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }

    assert set(seconds.values()) <= routes
    assert seconds == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }


@pytest.mark.parametrize("timeout_s", [60, 61, 900, 3600])
def test_a_model_has_the_time_to_load(timeout_s: int) -> None:
    """The probe goes on for as long as was said; what waits for the rollout, longer."""
    manifests = tuple(render(ANYBODY | {"startup": {"timeoutS": timeout_s}}))
    _, container = serving(manifests)
    probe = container["startupProbe"]

    waits_s = probe["periodSeconds"] * probe["failureThreshold"]

    assert timeout_s <= waits_s < timeout_s + 10
    assert the(manifests, "Deployment")["spec"]["progressDeadlineSeconds"] > waits_s


def test_readiness_is_waited_for_as_long_as_its_checks_take() -> None:
    """A database that is away is named by `/readyz` after its time, not lost in the probe's."""
    _, container = serving(installation("production"))

    assert container["readinessProbe"]["timeoutSeconds"] > _CHECK_S


def test_an_engine_that_hangs_is_ended_by_the_service_first() -> None:
    """It ends with status 1 and says why; the probe is for what cannot even do that."""
    _, container = serving(installation("production"))
    probe = container["livenessProbe"]

    assert probe["periodSeconds"] * probe["failureThreshold"] >= 30


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_a_drain_of_nodes_leaves_processes(name: str) -> None:
    """A budget where there are several; one for a single process would stop every drain."""
    manifests = installation(name)
    values = INSTALLATIONS[name]
    scaled = values.get("autoscaling", {}).get("kind", "none") != "none"
    least = 2 if scaled else values.get("replicas", 1)

    selector = the(manifests, "Deployment")["spec"]["selector"]
    budgets = [
        budget
        for budget in of_kind(manifests, "PodDisruptionBudget")
        if budget["spec"]["selector"] == selector
    ]

    assert len(budgets) == (1 if least > 1 else 0)
    for budget in budgets:
        assert budget["spec"]["maxUnavailable"] < least


def test_pods_are_spread() -> None:
    """Over zones and nodes, those of one version among themselves."""
    pod, _ = serving(installation("production"))

    constraints = pod["topologySpreadConstraints"]

    assert [c["topologyKey"] for c in constraints] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    labels = the(installation("production"), "Deployment")["spec"]["selector"]["matchLabels"]
    assert all(c["labelSelector"]["matchLabels"] == labels for c in constraints)


def test_a_gpu_is_asked_for_exactly_where_there_is_one() -> None:
    """One for each process: the engine takes no more."""
    _, with_gpu = serving(installation("production"))
    _, without = serving(installation("without a GPU"))

    assert with_gpu["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert with_gpu["resources"]["requests"]["nvidia.com/gpu"] == 1
    assert with_gpu["image"].startswith("instructerc@sha256:")
    assert "nvidia.com/gpu" not in without["resources"]["limits"]


def test_the_image_is_the_one_of_the_chart_s_version() -> None:
    """Where no tag is said, its kind goes by the GPU."""
    version = the(installation("production"), "Deployment")["metadata"]["labels"][
        "app.kubernetes.io/version"
    ]
    _, with_gpu = serving(tuple(render(ANYBODY)))
    _, without = serving(tuple(render(ANYBODY | {"gpu": {"enabled": False}})))

    assert with_gpu["image"] == f"instructerc:{version}-gpu"
    assert without["image"] == f"instructerc:{version}-cpu"


def test_jobs_come_before_the_processes() -> None:
    """Tables first; what failed stays to be looked at."""
    jobs = of_kind(installation("production"), "Job")

    by_weight = sorted(jobs, key=lambda j: int(j["metadata"]["annotations"]["helm.sh/hook-weight"]))

    assert [job["metadata"]["name"] for job in by_weight] == [
        "erc-instructerc-migrate",
        "erc-instructerc-index",
    ]
    for job in jobs:
        annotations = job["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert "hook-failed" not in annotations["helm.sh/hook-delete-policy"]
        # What the release makes is not there yet.
        pod = job["spec"]["template"]["spec"]
        assert "serviceAccountName" not in pod
        assert not any("persistentVolumeClaim" in volume for volume in pod["volumes"])


def test_another_file_is_another_batch_job() -> None:
    """A job cannot be changed, and one that is done is not to be done again."""
    values = INSTALLATIONS["scaled by Kubernetes, batch beside it"]

    def name(**changes: str) -> str:
        rendered = render({**values, "batch": values["batch"] | changes})
        return str(the(tuple(rendered), "Job")["metadata"]["name"])

    assert name() == name()
    assert name() != name(input="other.jsonl")
    assert len(name()) <= 63
