"""What the chart sets is what the service reads."""

import pytest

from service.access.addresses import allowed_hosts
from service.access.keyring import is_loopback
from service.settings import Settings, load_settings
from tests.helm.rendering import (
    INSTALLATIONS,
    NAMESPACE,
    Manifest,
    Values,
    containers,
    installation,
    of_kind,
    pods,
    render,
    the,
    variables,
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    from os import environ

    for name in list(environ):
        if name.startswith("ERC_"):
            monkeypatch.delenv(name)


def settings_of(container: Manifest, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As the service reads them; one that it does not know is an error."""
    environment = {k: v for k, v in variables(container).items() if k.startswith("ERC_")}
    with monkeypatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        return load_settings()


def test_the_service_knows_every_variable(
    manifests: tuple[Manifest, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every container that runs it, jobs included; the secrets stand for themselves."""
    read = [
        settings_of(container, monkeypatch)
        for _, pod in pods(manifests)
        for container in containers(pod)
        if any(name.startswith("ERC_") for name in variables(container))
    ]

    assert read


def test_no_variable_is_set_twice(manifests: tuple[Manifest, ...]) -> None:
    """The second one would win, in silence."""
    for name, pod in pods(manifests):
        for container in containers(pod):
            names = [variable["name"] for variable in container.get("env", [])]
            assert len(set(names)) == len(names), name


def test_the_process_listens_where_it_is_asked(
    manifests: tuple[Manifest, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an address that the node reaches, and the port that is named."""
    (container,) = the(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    settings = settings_of(container, monkeypatch)

    assert not is_loopback(settings.host)
    assert container["ports"] == [{"name": "http", "containerPort": settings.port}]
    assert settings.allow_anonymous == (settings.keys_file is None)


def test_what_is_written_lies_on_a_volume(
    manifests: tuple[Manifest, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root is read-only: database, index, keys and a fetched model are in mounted folders."""
    (container,) = the(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    settings = settings_of(container, monkeypatch)
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}

    url = settings.database.url.get_secret_value()
    if url.startswith("sqlite:////"):
        assert url.removeprefix("sqlite:///").startswith("/var/lib/instructerc/")
    if settings.qdrant.url is None:
        assert str(settings.demonstrations.folder).startswith("/var/lib/instructerc/")
    assert "readOnly" not in mounts["/var/lib/instructerc"]
    if settings.keys_file is not None:
        assert mounts[str(settings.keys_file.parent)]["readOnly"]
        assert "subPath" not in mounts[str(settings.keys_file.parent)]  # would never change
    if settings.bundle.parts[1] == "models":
        assert mounts["/models"]["readOnly"]


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_only_one_process_has_what_is_kept(name: str) -> None:
    """Where a claim holds the state, the old process ends before the new one starts."""
    deployment = the(installation(name), "Deployment")["spec"]
    (state,) = [v for v in deployment["template"]["spec"]["volumes"] if v["name"] == "state"]

    kept = "persistentVolumeClaim" in state

    assert kept == (deployment["strategy"]["type"] == "Recreate")
    if kept:
        assert deployment["replicas"] == 1


def test_a_fetched_model_lies_where_it_is_loaded_from() -> None:
    """Whatever fetches it writes the folder that the service is told of."""
    for name in ("production", "scaled by Kubernetes, batch beside it"):
        pod = the(installation(name), "Deployment")["spec"]["template"]["spec"]
        (fetching,) = pod["initContainers"]
        command = [*fetching.get("command", []), *fetching["args"]]

        bundle = variables(pod["containers"][0])["ERC_BUNDLE"]

        assert bundle in command
        assert {"name": "model", "mountPath": "/models"} in fetching["volumeMounts"]


def test_jobs_use_the_servers_of_the_service() -> None:
    """Tables and index are made where the processes look for them."""
    manifests = installation("production")
    service = variables(the(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0])

    jobs = {job["metadata"]["name"]: job for job in of_kind(manifests, "Job")}

    assert jobs.keys() == {"erc-instructerc-migrate", "erc-instructerc-index"}
    for job in jobs.values():
        environment = variables(job["spec"]["template"]["spec"]["containers"][0])
        assert environment.items() <= service.items()
        assert {"ERC_DATABASE__URL", "ERC_QDRANT__URL", "ERC_QDRANT__API_KEY"} <= environment.keys()


def test_commands_are_those_there_are(manifests: tuple[Manifest, ...]) -> None:
    """What a container is started with, the command line takes."""
    from typer.main import get_command

    from service.cli import app

    known = get_command(app)
    for name, pod in pods(manifests):
        for container in pod["containers"]:
            if "args" not in container or "command" in container:  # of another program
                continue
            command, *arguments = container["args"]
            known.commands[command].make_context(command, list(arguments))  # type: ignore[attr-defined]
            assert name


def test_trial_servers_are_the_ones_that_are_asked() -> None:
    """Address, port and password of each."""
    manifests = installation("trial of several processes")
    environment = variables(
        the(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    )
    services = {s["metadata"]["name"]: s["spec"]["ports"] for s in of_kind(manifests, "Service")}

    assert "@erc-instructerc-postgresql:5432/" in environment["ERC_DATABASE__URL"]
    assert services["erc-instructerc-postgresql"][0]["port"] == 5432
    assert environment["ERC_QDRANT__URL"] == "http://erc-instructerc-qdrant:6333"
    assert services["erc-instructerc-qdrant"][0]["port"] == 6333
    assert environment["PGPASSWORD"] == environment["ERC_QDRANT__API_KEY"] == "erc-trial"


CACHES = ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_a_model_over_several_gpus(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a pod has; the store of its weights is open to it, by port and by secret."""
    manifests = installation("a model over four GPUs, streamed from a store")
    of_this_kind = [m for m in of_kind(manifests, kind) if "batch" in m["metadata"]["name"]]
    pod = (of_this_kind or of_kind(manifests, kind))[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    engine = settings_of(container, monkeypatch).engine

    assert container["resources"]["limits"]["nvidia.com/gpu"] == engine.tensor_parallel == 4
    assert engine.weights == "s3://models/erc-70b"
    assert container["envFrom"] == [{"secretRef": {"name": "erc-weights"}}]
    (policy,) = [p for p in of_kind(manifests, "NetworkPolicy") if "Egress" in str(p["spec"])]
    assert {"ports": [{"port": 443}]} in policy["spec"]["egress"]


@pytest.mark.parametrize(
    ("name", "volume"),
    [
        ("one process, everything on a volume", "state"),
        ("a model over four GPUs, streamed from a store", "cache"),
        ("production", None),
        ("without a GPU", None),
    ],
)
def test_what_is_compiled_for_a_gpu_outlives_the_pod(name: str, volume: str | None) -> None:
    """Where there is a volume for it; elsewhere it lies in /tmp, by the libraries' own choice."""
    pod = the(installation(name), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    folders = [variables(container).get(name) for name in CACHES]

    if volume is None:
        assert folders == [None] * 3
        return
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert all(str(folder).startswith(f"{mounts[volume]}/") for folder in folders)
    (mounted,) = [each for each in pod["volumes"] if each["name"] == volume]
    assert "persistentVolumeClaim" in mounted


def test_without_a_gpu_a_process_computes_on_its_own_cores() -> None:
    """The node's are others' too; `settings` may say otherwise."""
    without = {"keys": {"anonymous": True}, "gpu": {"enabled": False}}

    (own,) = the(tuple(render(without)), "Deployment")["spec"]["template"]["spec"]["containers"]
    values = without | {"settings": {"ERC_ENGINE__THREADS": 3}}
    (other,) = the(tuple(render(values)), "Deployment")["spec"]["template"]["spec"]["containers"]

    (threads,) = [v for v in own["env"] if v["name"] == "ERC_ENGINE__THREADS"]
    assert threads["valueFrom"] == {"resourceFieldRef": {"resource": "limits.cpu"}}
    assert variables(other)["ERC_ENGINE__THREADS"] == "3"


@pytest.mark.parametrize(
    ("values", "allowed"),
    [
        ({"keys": {"anonymous": True}}, False),
        ({"keys": {"secret": {"name": "erc-keys"}, "hosts": ["*.mesh.example"]}}, False),
        ({"keys": {"secret": {"name": "erc-keys"}}}, True),
    ],
)
def test_the_service_is_asked_for_as_it_is_known(
    values: Values, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its names in the cluster and its routes' hosts, and by address; otherwise with keys."""
    routes = {
        "ingress": {"enabled": True, "host": "erc.example"},
        "gateway": {"enabled": True, "host": "a.erc.example", "parents": [{"name": "public"}]},
    }
    manifests = tuple(render({**values, **routes}))
    service = of_kind(manifests, "Service")[0]["metadata"]["name"]
    (container,) = the(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    settings = settings_of(container, monkeypatch)
    hosts = allowed_hosts(
        settings.allowed_hosts, loopback=False, keys=settings.keys_file is not None
    )

    for known in (
        service,
        f"{service}.{NAMESPACE}",
        f"{service}.{NAMESPACE}.svc",
        f"{service}.{NAMESPACE}.svc.cluster.local",
        "erc.example",
        "a.erc.example",
        "10.0.0.5",
        *(each.replace("*", "a") for each in values["keys"].get("hosts", ())),
    ):
        assert hosts.allow(known), known
    assert hosts.allow("evil.com") is allowed
