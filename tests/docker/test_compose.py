"""The compose files: valid, closed, without a password, and watched."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from service.settings import Settings, load_settings

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = REPOSITORY / "docker"
SCHEMA = json.loads(
    files("check_jsonschema")
    .joinpath("builtin_schemas/vendor/compose-spec.json")
    .read_text("utf-8")
)
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]


def prometheus() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load(
        (DOCKER / "prometheus/prometheus.yaml").read_text("utf-8")
    )
    return compose


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml", "compose.rules.yaml"])
def test_compose_takes_it(name: str) -> None:
    """By the specification's own schema."""
    jsonschema.validate(yaml.safe_load((DOCKER / name).read_text("utf-8")), SCHEMA)


def test_the_gpu_is_added_to_the_service() -> None:
    """The second file changes services that the first one has."""
    added = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text("utf-8"))["services"]

    assert added.keys() <= SERVICES.keys()
    (device,) = added["service"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "${GPUS:-1}", "capabilities": ["gpu"]}
    assert added["service"]["environment"]["ERC_ENGINE__TENSOR_PARALLEL"] == device["count"]


def test_rules_are_added_to_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a folder that is no repository's, beside the keys', and on a network that leads out."""
    file = yaml.safe_load((DOCKER / "compose.rules.yaml").read_text("utf-8"))
    (added,) = file["services"].values()
    (volume,) = added["volumes"]
    source, folder, mode = volume.split(":")
    for name, value in added["environment"].items():
        monkeypatch.setenv(name, value)

    rules = load_settings().rules.file
    assert file["services"].keys() <= SERVICES.keys()
    assert rules is not None
    assert str(rules.parent) == folder
    assert mode == "ro"
    assert folder not in {each.split(":")[1] for each in SERVICES["service"]["volumes"]}
    ignored = (REPOSITORY / ".gitignore").read_text("utf-8").splitlines()
    assert f"{(DOCKER / source).relative_to(REPOSITORY)}/" in ignored
    networks = {name: COMPOSE["networks"][name] for name in SERVICES["service"]["networks"]}
    assert any(not network.get("internal") for network in networks.values())


def test_what_is_compiled_for_the_gpu_is_kept() -> None:
    """On a volume that the image's user may write to, as its folder in the image is the user's."""
    file = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text("utf-8"))
    (volume,) = file["services"]["service"]["volumes"]
    name, folder = volume.split(":")
    environment = file["services"]["service"]["environment"]

    assert file["volumes"] == {name: {}}
    for variable in ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        assert environment[variable].startswith(f"{folder}/")
    (made,) = re.findall(r"install -d (.*)", (DOCKER / "Dockerfile").read_text("utf-8"))
    assert made.split()[:4] == ["-o", "instructerc", "-g", "instructerc"]
    assert folder in made.split()


def test_the_service_knows_every_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is not set stands for itself."""
    variables = {k: v for k, v in SERVICES["service"]["environment"].items() if k[:4] == "ERC_"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    settings = load_settings()

    assert settings.keys_file is not None
    assert not settings.allow_anonymous
    assert settings.qdrant.url is not None
    folder = str(settings.keys_file.parent)
    assert f"./keys:{folder}:ro" in SERVICES["service"]["volumes"]


def test_secrets_have_no_default() -> None:
    """Compose refuses to start without them, and the example names each and fills in none."""
    text = (DOCKER / "compose.yaml").read_text("utf-8")
    variables = re.findall(r"\$\{(\w+)(.*?)\}", text)
    example = dict(re.findall(r"^(\w+)=(.*)$", (DOCKER / "example.env").read_text("utf-8"), re.M))

    assert all(rest.startswith(":?") for _, rest in variables)
    assert {name for name, _ in variables} == example.keys()
    assert not any(example.values())
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or name.endswith("API_KEY"):
                assert value.startswith("${"), name


@pytest.mark.parametrize("name", SERVICES)
def test_containers_are_closed(name: str) -> None:
    """Read-only, without capabilities, and reached from this machine alone."""
    service = SERVICES[name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_containers_are_asked_whether_they_are_well(name: str) -> None:
    """Each has a check, the service's in its image; who needs another one waits for it."""
    service = SERVICES[name]

    if name == "service":
        assert "HEALTHCHECK" in (DOCKER / "Dockerfile").read_text("utf-8")
    else:
        assert service["healthcheck"]["test"][0] == "CMD"
        assert "@sha256:" in service["image"]
    for needed, condition in service.get("depends_on", {}).items():
        assert needed in SERVICES
        # The service is watched while it starts, too.
        expected = "service_started" if name == "prometheus" else "service_healthy"
        assert condition == {"condition": expected}


def test_databases_are_reached_by_the_service_alone() -> None:
    """They are on a network of their own, and publish nothing."""
    with_data = {name for name, service in SERVICES.items() if "data" in service["networks"]}

    assert with_data == {"service", "postgresql", "qdrant"}
    assert COMPOSE["networks"]["data"]["internal"]
    assert not any("ports" in SERVICES[name] for name in ("postgresql", "qdrant"))


def test_what_is_under_way_is_finished() -> None:
    """The container is killed only after the drain."""
    stop_s = int(SERVICES["service"]["stop_grace_period"].removesuffix("s"))

    assert stop_s > Settings().admission.grace_s + 10


def test_what_is_mounted_is_there() -> None:
    """Files of the repository by their places; what is written has a volume or lies in memory."""
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            if not source.startswith("."):
                assert source in COMPOSE["volumes"], name
                continue
            assert mode == ["ro"], volume
            path = (DOCKER / source).resolve()
            # Keys are the operator's; the chart's folders may be empty.
            made = path.name == "keys" or path.parent == REPOSITORY / "helm" / "instructerc"
            assert made or path.is_file(), volume
            assert target.startswith("/etc/"), volume


def test_prometheus_scrapes_the_service_and_reads_the_rules() -> None:
    """At the address that the network has, with the labels that rules and dashboards group by."""
    (job,) = prometheus()["scrape_configs"]
    (static,) = job["static_configs"]

    assert static["targets"] == ["service:8000"]
    assert set(static["labels"]) == {"namespace"}  # `job` comes by itself
    assert "metrics_path" not in job
    (pattern,) = prometheus()["rule_files"]
    assert "../helm/instructerc/rules:/etc/prometheus/rules:ro" in SERVICES["prometheus"]["volumes"]
    assert Path(pattern).parent == Path("/etc/prometheus/rules")


def test_grafana_is_provisioned() -> None:
    """With that Prometheus, and with the chart's dashboards, which nobody edits by hand."""
    mounted = dict(v.split(":")[:2] for v in SERVICES["grafana"]["volumes"] if v[0] == ".")
    (source,) = yaml.safe_load((DOCKER / "grafana/datasources.yaml").read_text("utf-8"))[
        "datasources"
    ]
    (provider,) = yaml.safe_load((DOCKER / "grafana/dashboards.yaml").read_text("utf-8"))[
        "providers"
    ]

    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == prometheus()["global"]["scrape_interval"]
    assert mounted["../helm/instructerc/dashboards"] == provider["options"]["path"]
    assert not provider["allowUiUpdates"]
    assert mounted["./grafana/datasources.yaml"].startswith(
        "/etc/grafana/provisioning/datasources/"
    )
    assert mounted["./grafana/dashboards.yaml"].startswith("/etc/grafana/provisioning/dashboards/")
