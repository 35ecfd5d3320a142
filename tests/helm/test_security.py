"""Pods run with Kubernetes' restricted profile, and less."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from qdrant_client import QdrantClient

from tests.helm.rendering import (
    INSTALLATIONS,
    Manifest,
    containers,
    installation,
    of_kind,
    pods,
    render,
    templates,
    the,
)

REPOSITORY = Path(__file__).resolve().parents[2]
CHECKOV = REPOSITORY / "build" / "checkov" / "bin" / "checkov"

# What checkov asks for and is not done, with the reason.
ACCEPTED = {
    "CKV_K8S_35": "settings are environment variables; a changed secret needs a new pod either way",
    "CKV_K8S_43": "the digest of the service's own image is the operator's to set",
}


def test_pods_are_restricted(manifests: tuple[Manifest, ...]) -> None:
    """Pod Security Standards, `restricted`: kubernetes.io/docs/concepts/security."""
    for name, pod in pods(manifests):
        security = pod["securityContext"]
        assert security["runAsNonRoot"], name
        assert security["runAsUser"] > 10000, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        for container in containers(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
        for volume in pod["volumes"]:
            kinds = volume.keys() - {"name"}
            assert kinds <= {"emptyDir", "secret", "persistentVolumeClaim"}, name


def test_roots_are_read_only_and_the_rest_is_bounded(manifests: tuple[Manifest, ...]) -> None:
    """No container fills its node's disk or memory."""
    for name, pod in pods(manifests):
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"], name
            assert container["resources"]["limits"].keys() >= {"cpu", "memory"}, name
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {v["name"] for v in [*pod["volumes"], {"name": "data"}]}, name
        for volume in pod["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], name


def test_nothing_talks_to_kubernetes(manifests: tuple[Manifest, ...]) -> None:
    """No token is mounted, and there is nothing that a token would be allowed."""
    assert all(pod["automountServiceAccountToken"] is False for _, pod in pods(manifests))
    assert the(manifests, "ServiceAccount")["automountServiceAccountToken"] is False
    assert not {m["kind"] for m in manifests} & {"Role", "ClusterRole", "RoleBinding"}


def test_a_service_called_erc_changes_no_setting(manifests: tuple[Manifest, ...]) -> None:
    """Kubernetes would set ERC_PORT=tcp://... in every pod of the namespace."""
    assert all(pod["enableServiceLinks"] is False for _, pod in pods(manifests))


def test_no_secret_is_a_value(manifests: tuple[Manifest, ...]) -> None:
    """The chart makes no Secret, and what is secret comes from one."""
    assert not of_kind(manifests, "Secret")
    for name, pod in pods(manifests):
        for container in containers(pod):
            for variable in container.get("env", []):
                secret = any(word in variable["name"] for word in ("PASSWORD", "KEY", "TOKEN"))
                where = variable.get("value", "").startswith("/")  # of a file
                assert not secret or where or "secretKeyRef" in variable["valueFrom"], name


def test_images_of_others_are_pinned(manifests: tuple[Manifest, ...]) -> None:
    """By digest: what a tag means may change."""
    for name, pod in pods(manifests):
        for container in containers(pod):
            image = container["image"]
            assert image.startswith("instructerc") or "@sha256:" in image, name


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_pods_are_reached_and_reach_only_what_is_named(name: str) -> None:
    """Every pod of the chart has a policy that closes both ways, unless it is switched off."""
    manifests = installation(name)
    policies = [policy["spec"] for policy in of_kind(manifests, "NetworkPolicy")]
    if not INSTALLATIONS[name].get("networkPolicy", {}).get("enabled", True):
        assert not policies
        return

    components = set()
    for policy in policies:
        assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
        selector = policy["podSelector"]
        components |= {selector["matchLabels"].get("app.kubernetes.io/component")} - {None}
        for expression in selector.get("matchExpressions", []):
            components |= set(expression["values"])
    made = {
        template["metadata"]["labels"]["app.kubernetes.io/component"]
        for _, template in templates(manifests)
    }
    assert made <= components


def test_the_service_reaches_its_servers() -> None:
    """By port where they are elsewhere; 443 is the hub's."""

    def ports(name: str) -> set[object]:
        policy = the(installation(name), "NetworkPolicy")["spec"]
        return {p["port"] for rule in policy["egress"] for p in rule["ports"]}

    assert ports("production") == {53, 5432, 6333, 443, 4317, 8126}
    assert ports("scaled by KEDA, behind a gateway") == {53, 5432, 6333}
    assert ports("one process, everything on a volume") == {53}


def test_the_port_of_qdrant_is_the_one_that_its_client_takes() -> None:
    """An address without a port means 6333 to both, with https too."""
    url = "https://qdrant.example"
    values = INSTALLATIONS["production"]
    manifests = tuple(render({**values, "qdrant": {"kind": "server", "url": url}}))
    client = QdrantClient(url=url, check_compatibility=False)

    egress = the(manifests, "NetworkPolicy")["spec"]["egress"]

    assert [{"port": client._client._port}] in [rule["ports"] for rule in egress]  # type: ignore[attr-defined]


@pytest.mark.skipif(
    not CHECKOV.exists(), reason="`make test` installs checkov; pytest alone does not"
)
def test_checkov_finds_nothing_that_is_not_accepted(tmp_path: Path) -> None:
    """Of all it knows of Kubernetes; what is accepted is found, or it is no longer to be listed."""
    for number, name in enumerate(INSTALLATIONS):
        text = yaml.safe_dump_all(installation(name), sort_keys=False)
        (tmp_path / f"{number}.yaml").write_text(text, "utf-8")

    done = subprocess.run(
        [
            CHECKOV,
            *("--directory", tmp_path),
            *("--framework", "kubernetes"),
            *("--output", "json"),
            "--skip-download",
            "--quiet",
            "--compact",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )

    report = json.loads(done.stdout)
    failed = {(f["check_id"], f["resource"]) for f in report["results"]["failed_checks"]}
    assert report["summary"]["passed"] > 500
    assert not report["summary"]["parsing_errors"]
    assert {check for check, _ in failed} == ACCEPTED.keys(), sorted(failed)
