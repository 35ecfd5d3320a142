"""vLLM in pods of its own, or elsewhere."""

import json
import re
from typing import Any

import helm_python
import pytest
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from tests.helm.rendering import (
    INSTALLATIONS,
    Manifest,
    installation,
    of_kind,
    render,
    the,
    variables,
)

PODS = "vLLM in pods of its own, both scaled by KEDA"
POOL = "vLLM in pods without GPUs, picked by an inference gateway"
ELSEWHERE = "vLLM elsewhere"


def pod_of(name: str, component: str) -> Manifest:
    pod: Manifest = the(installation(name), "Deployment", component)["spec"]["template"]["spec"]
    return pod


def service_of(name: str) -> dict[str, str]:
    return variables(pod_of(name, "service")["containers"][0])


@pytest.mark.parametrize("name", [PODS, POOL])
def test_vllm_knows_every_flag(name: str) -> None:
    """As its own server parses them; the key is the service's."""
    (container,) = pod_of(name, "engine")["containers"]
    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(container["args"])
    service = service_of(name)

    assert container["command"] == ["python", "-m", "vllm.entrypoints.openai.api_server"]
    assert arguments.served_model_name == [service["ERC_ENGINE__MODEL"]]
    assert arguments.model == service["ERC_BUNDLE"]
    assert (arguments.scheduling_policy, arguments.enable_prefix_caching) == ("priority", True)
    assert arguments.enable_prompt_tokens_details
    assert arguments.max_logprobs == 128
    assert variables(container)["VLLM_API_KEY"] == service["ERC_ENGINE__API_KEY"] == "erc-engine"


def test_gpus_are_the_engine_s_and_all_of_them_compute() -> None:
    """The service has none, and its image no vLLM."""
    engine, service = pod_of(PODS, "engine"), pod_of(PODS, "service")
    version = the(installation(PODS), "Deployment")["metadata"]["labels"][
        "app.kubernetes.io/version"
    ]

    for kind in ("requests", "limits"):
        assert engine["containers"][0]["resources"][kind]["nvidia.com/gpu"] == 2
        assert "nvidia.com/gpu" not in service["containers"][0]["resources"][kind]
    assert "--tensor-parallel-size=2" in engine["containers"][0]["args"]
    assert engine["containers"][0]["image"] == f"instructerc:{version}-gpu"
    assert service["containers"][0]["image"] == f"instructerc:{version}-api"
    assert engine["nodeSelector"] == {"gpu": "h200"}
    assert "nodeSelector" not in service


def test_without_gpus_a_server_computes_on_its_cores() -> None:
    (container,) = pod_of(POOL, "engine")["containers"]

    assert container["image"].endswith("-cpu")
    assert "--block-size=32" in container["args"]
    assert variables(container)["VLLM_CPU_KVCACHE_SPACE"] == "2"


def test_the_service_fetches_no_weights() -> None:
    """The engine does."""
    (of_service,) = pod_of(PODS, "service")["initContainers"]
    (of_engine,) = pod_of(PODS, "engine")["initContainers"]

    assert "*.safetensors*" in of_service["args"]
    assert "*.safetensors*" not in of_engine["args"]


def test_the_service_looks_each_server_up() -> None:
    """By the name of a headless Service, and keeps a dialogue with one."""
    service = the(installation(PODS), "Service", "engine")

    assert service["spec"]["clusterIP"] == "None"
    url = f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert service_of(PODS)["ERC_ENGINE__URLS"] == url
    assert service_of(ELSEWHERE)["ERC_ENGINE__URLS"] == (
        "http://gpu-1.example:8000,https://gpu-2.example"
    )


def test_a_gateway_leads_to_the_pool_of_the_servers() -> None:
    """By the name that the service asks it for."""
    manifests = installation(POOL)
    pool, route = the(manifests, "InferencePool"), the(manifests, "HTTPRoute", "engine")
    labels = the(manifests, "Deployment", "engine")["spec"]["template"]["metadata"]["labels"]

    assert pool["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert route["spec"]["rules"][0]["backendRefs"] == [
        {
            "group": "inference.networking.k8s.io",
            "kind": "InferencePool",
            "name": pool["metadata"]["name"],
        }
    ]
    assert service_of(POOL)["ERC_ENGINE__URLS"] == f"http://{route['spec']['hostnames'][0]}"


def test_only_the_service_and_what_is_named_reach_the_servers() -> None:
    """And the service reaches them."""
    manifests = installation(PODS)
    engine = the(manifests, "NetworkPolicy", "engine")["spec"]
    service = the(manifests, "NetworkPolicy")["spec"]
    ours, monitoring = engine["ingress"][0]["from"]
    (selected,) = ours["podSelector"]["matchExpressions"]

    assert len(engine["ingress"]) == 1
    assert set(selected["values"]) == {"service", "batch"}
    assert monitoring == {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    assert {
        "to": [{"podSelector": engine["podSelector"]}],
        "ports": [{"port": "http"}],
    } in service["egress"]
    elsewhere = the(installation(ELSEWHERE), "NetworkPolicy")["spec"]["egress"]
    assert {8000, 443} <= {port["port"] for rule in elsewhere for port in rule["ports"]}


def test_each_is_scaled_by_its_own_load() -> None:
    """Servers by the prompts that wait for them, by the series that the monitor brings."""
    manifests = installation(PODS)
    engine, service = (the(manifests, "ScaledObject", each) for each in ("engine", "service"))
    queries = {
        scaler["spec"]["scaleTargetRef"]["name"]: scaler["spec"]["triggers"][0]["metadata"]["query"]
        for scaler in (engine, service)
    }

    name = the(manifests, "Service", "engine")["metadata"]["name"]
    assert queries == {
        name: f'sum(vllm:num_requests_waiting{{namespace="emotions",job="{name}"}})',
        "erc-instructerc": (
            'sum(erc_requests_in_flight{namespace="emotions",job="erc-instructerc"})'
        ),
    }
    monitor = the(manifests, "ServiceMonitor", "engine")["spec"]
    labels = the(manifests, "Service", "engine")["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    (metric,) = the(installation(ELSEWHERE), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "erc_requests_in_flight"


@pytest.mark.parametrize("name", [PODS, POOL])
def test_a_server_ends_after_the_reads_under_way(name: str) -> None:
    """It is looked up no longer by then, and has the time before it is killed."""
    pod = pod_of(name, "engine")
    (container,) = pod["containers"]
    (flag,) = [each for each in container["args"] if each.startswith("--shutdown-timeout=")]
    pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert pause_s > 5
    assert pod["terminationGracePeriodSeconds"] > pause_s + int(flag.partition("=")[2])


@pytest.mark.parametrize("name", [PODS, POOL])
def test_a_drain_of_nodes_leaves_servers(name: str) -> None:
    budget = the(installation(name), "PodDisruptionBudget", "engine")

    assert budget["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"kind": "external", "urls": []}, r"set engine\.urls"),
        ({"kind": "process"}, r"set engine\.kind to external"),
        ({"kind": "pods", "urls": [], "secret": {"name": ""}}, r"set engine\.secret\.name"),
        ({"kind": "pods", "urls": [], "pods": {"pool": {"enabled": True}}}, "set its picker"),
        ({"urls": ["gpu-1:8000"]}, "urls"),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    changes: dict[str, Any], remedy: str
) -> None:
    values = json.loads(json.dumps(INSTALLATIONS[ELSEWHERE]))
    values["engine"] |= changes

    with pytest.raises(helm_python.HelmError, match=remedy):
        render(values)


def test_servers_do_not_stream_their_weights() -> None:
    """They would start on a bundle without any."""
    uri = "s3://models/erc-70b"
    values = {**INSTALLATIONS[POOL], "model": {"weights": {"uri": uri, "secret": "erc-store"}}}

    with pytest.raises(helm_python.HelmError, match=r"another model\.source"):
        render(values)


def test_the_page_of_engines_has_the_flags_of_the_chart() -> None:
    """Whoever starts servers by hand starts the same ones."""
    from tests.helm.rendering import CHART

    page = (CHART.parents[1] / "docs" / "engines.md").read_text("utf-8")
    (container,) = pod_of(PODS, "engine")["containers"]
    own = {"--model", "--port", "--tensor-parallel-size", "--disable-uvicorn-access-log"}
    flags = {each.partition("=")[0] for each in container["args"]} - own
    flags.discard("--gpu-memory-utilization")

    assert flags <= set(re.findall(r"--[a-z-]+", page))
    assert not of_kind(installation("production"), "InferencePool")
