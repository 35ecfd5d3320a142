"""What is rendered is what Kubernetes and the operators take."""

import json
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest

from tests.helm.rendering import INSTALLATIONS, NAMESPACE, Manifest, installation, templates

KUBERNETES = ("1.30", "1.37")  # the oldest that the chart takes, the newest there are schemas of
SCHEMAS = Path(__file__).parent / "schemas"
OPERATORS = {path.stem: json.loads(path.read_text("utf-8")) for path in SCHEMAS.iterdir()}


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_manifest(manifests: tuple[Manifest, ...], version: str) -> None:
    """Strictly: a misspelt field, which a cluster would drop, is refused."""
    own = [manifest for manifest in manifests if manifest["kind"] not in OPERATORS]

    for _, template in templates(tuple(m for m in manifests if m["kind"] == "RayJob")):
        own.append({"apiVersion": "v1", "kind": "Pod", **template})
    for manifest in own:
        kubernetes_validate.validate(manifest, version, strict=True)

    assert {"Deployment", "Service", "ServiceAccount"} <= {manifest["kind"] for manifest in own}


def test_operators_take_theirs(manifests: tuple[Manifest, ...]) -> None:
    """By the part of their definitions that the chart uses; anything else is refused."""
    for manifest in manifests:
        if manifest["kind"] in OPERATORS:
            jsonschema.validate(manifest, OPERATORS[manifest["kind"]])


def test_every_operator_is_tried() -> None:
    """No schema lies there for nothing."""
    kinds = {manifest["kind"] for name in INSTALLATIONS for manifest in installation(name)}
    assert OPERATORS.keys() - {"PrometheusRule"} <= kinds


def test_everything_lies_in_the_namespace_of_the_release(manifests: tuple[Manifest, ...]) -> None:
    """And no two objects of a kind have one name."""
    places = [
        (manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        for manifest in manifests
    ]

    assert {namespace for _, namespace, _ in places} == {NAMESPACE}
    assert len(set(places)) == len(places)


def test_selectors_find_the_pods_they_are_for(manifests: tuple[Manifest, ...]) -> None:
    """A service, policy or budget without pods does nothing, and says nothing."""
    pods = [template["metadata"]["labels"] for _, template in templates(manifests)]

    for manifest in manifests:
        spec = manifest.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector")
        if manifest["kind"] == "Service":
            selector = {"matchLabels": selector}
        if selector is None or manifest["kind"] == "ServiceMonitor":
            continue
        wanted = selector.get("matchLabels", {}).items()
        assert any(wanted <= labels.items() for labels in pods), manifest["metadata"]["name"]
