"""Autoscalers ask for what the service tells."""

import re

import pytest

from service.observability.metrics import Metrics
from service.settings import Settings
from tests.helm.rendering import INSTALLATIONS, installation, of_kind, render, the


def families() -> set[str]:
    """Names of the service's own numbers."""
    return {family.name for family in Metrics().registry.collect()}


def test_kubernetes_scales_by_a_number_there_is() -> None:
    """A gauge: prometheus-adapter offers it for pods under its own name."""
    scaler = the(installation("scaled by Kubernetes, batch beside it"), "HorizontalPodAutoscaler")

    (metric,) = scaler["spec"]["metrics"]

    gauges = {f.name for f in Metrics().registry.collect() if f.type == "gauge"}
    assert metric["pods"]["metric"]["name"] in gauges


def test_keda_scales_by_numbers_there_are() -> None:
    """Of the pods of this release alone."""
    scaler = the(installation("scaled by KEDA, behind a gateway"), "ScaledObject")

    (trigger,) = scaler["spec"]["triggers"]
    query = trigger["metadata"]["query"]

    assert set(re.findall(r"erc_\w+", query)) <= families()
    assert re.findall(r"erc_\w+", query)
    for selector in re.findall(r"{(.*?)}", query):
        assert dict(re.findall(r'(\w+)="(.*?)"', selector)) == {
            "namespace": "emotions",
            "job": "erc-instructerc",
        }


def test_the_service_that_is_asked_about_is_the_one_that_is_scraped() -> None:
    """prometheus-operator's label `job` is the name of the Service that a monitor selects."""
    manifests = installation("scaled by KEDA, behind a gateway")
    service = the(manifests, "Service")
    monitor = the(manifests, "ServiceMonitor")["spec"]

    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert "jobLabel" not in monitor
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert service["metadata"]["name"] == "erc-instructerc"


def test_processes_are_added_before_requests_are_refused() -> None:
    """What is aimed at is less than the places of a process, half of which batches may take."""
    (metric,) = the(
        installation("scaled by Kubernetes, batch beside it"), "HorizontalPodAutoscaler"
    )["spec"]["metrics"]

    assert int(metric["pods"]["target"]["averageValue"]) <= Settings().utterance_places // 2


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_only_one_decides_how_many_there_are(name: str) -> None:
    """Where an autoscaler does, an upgrade does not set the number back."""
    manifests = installation(name)
    scalers = of_kind(manifests, "HorizontalPodAutoscaler") + of_kind(manifests, "ScaledObject")
    scaled = [scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers]

    for deployment in of_kind(manifests, "Deployment"):
        number = scaled.count(deployment["metadata"]["name"])
        assert number == ("replicas" not in deployment["spec"])


def test_what_scales_names_the_deployment() -> None:
    """And nothing that is not there."""
    for kind in ("hpa", "keda"):
        values = INSTALLATIONS["scaled by KEDA, behind a gateway"]
        manifests = tuple(
            render({**values, "autoscaling": {"kind": kind, "prometheus": "http://a"}})
        )
        (scaler,) = of_kind(manifests, "HorizontalPodAutoscaler") + of_kind(
            manifests, "ScaledObject"
        )
        target = scaler["spec"]["scaleTargetRef"]["name"]
        assert target == the(manifests, "Deployment")["metadata"]["name"]
