"""An archive is scored by a RayJob, whose head reads and writes."""

import shlex

import pytest
from typer.main import get_command

from service.cli import app
from tests.helm.rendering import (
    INSTALLATIONS,
    Manifest,
    installation,
    of_kind,
    render,
    templates,
    the,
    variables,
)

CLUSTER = "an archive on a Ray cluster"


def ray_pods() -> dict[str, Manifest]:
    rendered = templates(tuple(of_kind(installation(CLUSTER), "RayJob")))
    return {name.rpartition(", ")[2]: template["spec"] for name, template in rendered}


def test_the_entrypoint_is_a_command_that_there_is() -> None:
    """With a glob that the shell leaves alone, and as many actors as workers."""
    spec = the(installation(CLUSTER), "RayJob")["spec"]
    program, *arguments = shlex.split(spec["entrypoint"])
    command = get_command(app)

    with command.make_context(program, list(arguments)) as context:
        name, score, rest = command.resolve_command(context, arguments)  # type: ignore[attr-defined]
        given = score.make_context(name, rest, parent=context).params

    assert program == "instructerc"
    assert (given["source"], given["target"]) == ("/work/calls/*.jsonl", "/work/scored.parquet")
    assert given["label_space"] == "meld"
    assert given["demonstrations"] is True
    assert given["cluster"] is not None
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert given["actors"] == group["replicas"] == group["maxReplicas"] == 3


def test_there_is_a_job_or_a_ray_job() -> None:
    manifests = installation(CLUSTER)

    assert not [m for m in of_kind(manifests, "Job") if "batch" in m["metadata"]["name"]]
    for name in INSTALLATIONS:
        assert bool(of_kind(installation(name), "RayJob")) == (name == CLUSTER)


def test_workers_have_the_gpus_and_only_the_head_the_archive() -> None:
    """The head runs no actor: the dialogues come to the workers by Ray."""
    pods = ray_pods()
    (head,), (engine,) = (pods[name]["containers"] for name in ("head", "engines"))
    params = the(installation(CLUSTER), "RayJob")["spec"]["rayClusterSpec"]["headGroupSpec"]

    assert params["rayStartParams"]["num-cpus"] == params["rayStartParams"]["num-gpus"] == "0"
    assert engine["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in head["resources"]["limits"]
    assert {
        name for name, pod in pods.items() if "work" in {v["name"] for v in pod["volumes"]}
    } == {"head"}


def test_the_bundle_is_where_every_engine_looks_for_it() -> None:
    """Actors take the settings of the head."""
    pods = ray_pods()
    bundle = variables(pods["head"]["containers"][0])["ERC_BUNDLE"]

    for name in ("head", "engines"):
        (fetching,) = pods[name]["initContainers"]
        assert bundle in fetching["args"]
        assert {m["name"]: m["mountPath"] for m in pods[name]["containers"][0]["volumeMounts"]}[
            "model"
        ] == "/models"


def test_cores_of_workers_without_gpus_are_their_limit() -> None:
    values = {**INSTALLATIONS[CLUSTER], "gpu": {"enabled": False}}
    job = the(tuple(render(values)), "RayJob")["spec"]["rayClusterSpec"]
    head = job["headGroupSpec"]["template"]["spec"]["containers"][0]
    engine = job["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]

    assert variables(head)["ERC_ENGINE__THREADS"] == engine["resources"]["limits"]["cpu"]


@pytest.mark.parametrize("changed", ["input", "output", "labelSpace"])
def test_another_task_is_another_ray_job(changed: str) -> None:
    values = INSTALLATIONS[CLUSTER]

    def name(**changes: str) -> str:
        rendered = render({**values, "batch": values["batch"] | changes})
        return str(the(tuple(rendered), "RayJob")["metadata"]["name"])

    assert name() != name(**{changed: "other"})


def test_pods_of_ray_reach_each_other() -> None:
    """On all ports; of others only the operator, at the dashboard."""
    policy = the(installation(CLUSTER), "NetworkPolicy", "batch")["spec"]
    among, operator = policy["ingress"]

    assert among == {"from": policy["egress"][0]["to"]}
    assert "ports" not in policy["egress"][0]
    assert operator["ports"] == [{"port": 8265}]
