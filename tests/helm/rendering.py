"""The chart as Helm renders it, for values that people would install it with."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).resolve().parents[2] / "helm" / "instructerc"
NAME, NAMESPACE = "erc", "emotions"

Values = Mapping[str, Any]
Manifest = dict[str, Any]

_KEYS = {"secret": {"name": "erc-keys"}}
_POSTGRESQL = {"kind": "postgresql", "secret": {"name": "erc-database"}}
_QDRANT = {"kind": "server", "url": "https://qdrant.example:6333", "secret": {"name": "erc-qdrant"}}
_DIGEST = "sha256:" + 64 * "0"

# Every kind of each part occurs; nothing is missing that an operator would have to set.
INSTALLATIONS: Mapping[str, Values] = {
    "one process, everything on a volume": {"keys": _KEYS},
    "without a GPU": {
        "keys": _KEYS,
        "gpu": {"enabled": False},
        "image": {"tag": "mine"},
        "model": {"source": "volume", "volume": {"claim": "models", "path": "bundles/mine"}},
        "storage": {"claim": "mine"},
        "settings": {"ERC_LOG_LEVEL": "warning", "ERC_SESSIONS__DIALOGUE_RETENTION_S": 86400},
    },
    "trial of several processes": {
        "replicas": 2,
        "keys": {"anonymous": True},
        "database": {"kind": "trial", "trial": {"secret": {"name": "erc-trial"}}},
        "qdrant": {"kind": "trial", "secret": {"name": "erc-trial", "key": "qdrant"}},
        "metrics": {"monitor": {"enabled": True}},
    },
    "production": {
        "replicas": 3,
        "image": {"digest": _DIGEST, "pullSecrets": ["registry"]},
        "gpu": {"runtimeClass": "nvidia"},
        "model": {
            "source": "hub",
            "hub": {
                "repository": "acme/erc-7b",
                "revision": 40 * "a",
                "secret": {"name": "hub"},
            },
        },
        "keys": _KEYS,
        "rules": {"secret": {"name": "erc-rules"}},
        "database": _POSTGRESQL,
        "qdrant": _QDRANT,
        "metrics": {
            "monitor": {
                "enabled": True,
                "labels": {"release": "prometheus"},
                "secret": {"name": "erc-scrape"},
            },
            "rules": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboards": {"enabled": True},
        },
        "ingress": {
            "enabled": True,
            "class": "nginx",
            "host": "erc.example",
            "tlsSecret": "erc-tls",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-buffering": "off"},
        },
        "networkPolicy": {
            "from": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 8126}]}],
        },
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "speech"},
        "priorityClass": "online",
        "logs": {"dialogueKey": {"name": "erc-logs"}},
        "traces": {"endpoint": "http://collector.tracing:4317"},
        "nodeSelector": {"gpu": "h200"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    },
    "a model over four GPUs, streamed from a store": {
        "replicas": 2,
        "keys": _KEYS,
        "gpu": {"count": 4},
        "scratch": {"sharedMemory": "8Gi"},
        "cache": {"claim": "erc-compiled"},
        "model": {
            "source": "volume",
            "volume": {"claim": "bundles", "path": "erc-70b"},
            "weights": {"uri": "s3://models/erc-70b", "secret": "erc-weights"},
        },
        "database": _POSTGRESQL,
        "qdrant": _QDRANT,
        "settings": {"ERC_ENGINE__ARGUMENTS": '{"num_gpu_blocks_override": 4096}'},
        "batch": {"enabled": True, "claim": "corpora", "input": "in.jsonl", "output": "out.jsonl"},
    },
    "scaled by KEDA, behind a gateway": {
        "keys": _KEYS,
        "database": _POSTGRESQL,
        "qdrant": _QDRANT | {"url": "http://qdrant.qdrant", "secret": {"name": ""}},
        "autoscaling": {"kind": "keda", "prometheus": "http://prometheus.monitoring:9090"},
        "metrics": {"open": True, "monitor": {"enabled": True}},
        "pathPrefix": "/emotions",
        "gateway": {
            "enabled": True,
            "parents": [{"name": "public", "namespace": "gateways", "sectionName": "https"}],
            "host": "erc.example",
        },
    },
    "vLLM in pods of its own, both scaled by KEDA": {
        "keys": _KEYS,
        "database": _POSTGRESQL,
        "qdrant": _QDRANT,
        "engine": {
            "kind": "pods",
            "secret": {"name": "erc-engine"},
            "pods": {
                "gpus": 2,
                "autoscaling": {"enabled": True},
                "arguments": ["--gpu-memory-utilization=0.85"],
                "nodeSelector": {"gpu": "h200"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                "from": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            },
        },
        "model": {
            "source": "hub",
            "hub": {"repository": "acme/erc-7b", "revision": 40 * "a"},
        },
        "logs": {"dialogueKey": {"name": "erc-logs"}},
        "autoscaling": {"kind": "keda", "prometheus": "http://prometheus.monitoring:9090"},
        "metrics": {"open": True, "monitor": {"enabled": True}},
    },
    "vLLM in pods without GPUs, picked by an inference gateway": {
        "replicas": 2,
        "keys": _KEYS,
        "database": _POSTGRESQL,
        "qdrant": _QDRANT,
        "engine": {
            "kind": "pods",
            "model": "erc-mini",
            "secret": {"name": "erc-engine"},
            "pods": {
                "replicas": 2,
                "gpus": 0,
                "cacheGib": 2,
                "pool": {
                    "enabled": True,
                    "picker": "erc-picker",
                    "parents": [{"name": "inference"}],
                    "url": "http://engine.example",
                },
            },
        },
    },
    "vLLM elsewhere": {
        "keys": _KEYS,
        "engine": {
            "kind": "external",
            "urls": ["http://gpu-1.example:8000", "https://gpu-2.example"],
            "model": "erc-mini",
            "secret": {"name": "erc-engine"},
        },
        "autoscaling": {"kind": "hpa"},
        "database": _POSTGRESQL,
        "qdrant": _QDRANT,
        "batch": {
            "enabled": True,
            "claim": "corpora",
            "input": "in.jsonl",
            "output": "out.jsonl",
        },
    },
    "scaled by Kubernetes, batch beside it": {
        "keys": _KEYS,
        "database": _POSTGRESQL | {"migrate": False},
        "qdrant": _QDRANT | {"index": False},
        "autoscaling": {"kind": "hpa"},
        "networkPolicy": {"enabled": False},
        "model": {
            "source": "objectStore",
            "objectStore": {"path": "store:models/erc-7b", "secret": "erc-store"},
        },
        "batch": {
            "enabled": True,
            "claim": "corpora",
            "input": "in.jsonl",
            "output": "out.jsonl",
            "labelSpace": "meld",
            "demonstrations": False,
        },
    },
    "an archive on a Ray cluster": {
        "keys": _KEYS,
        "image": {"pullSecrets": ["registry"]},
        "model": {
            "source": "objectStore",
            "objectStore": {"path": "store:models/erc-7b", "secret": "erc-store"},
        },
        "batch": {
            "enabled": True,
            "claim": "corpora",
            "input": "calls/*.jsonl",
            "output": "scored.parquet",
            "labelSpace": "meld",
            "cluster": {"workers": 3, "image": "instructerc:mine"},
        },
    },
}


@cache
def installation(name: str) -> tuple[Manifest, ...]:
    """What one of the installations above consists of; not to be changed."""
    return tuple(render(INSTALLATIONS[name]))


def render(values: Values, chart: Path = CHART) -> list[Manifest]:
    """Everything that `helm install` would make, `values.schema.json` checked as it does.

    Raises:
        helm_python.HelmError: Helm, the schema or the chart refuses the values.
    """
    with helm_python.Chart.load(chart) as loaded:
        loaded.validate_schema(loaded.merge_values(dict(values)))
        files = loaded.render(dict(values), name=NAME, namespace=NAMESPACE)
    return [
        manifest
        for path, text in files.items()
        if path.endswith(".yaml")
        for manifest in yaml.safe_load_all(text)
        if manifest
    ]


def of_kind(manifests: tuple[Manifest, ...], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def the(manifests: tuple[Manifest, ...], kind: str, component: str = "service") -> Manifest:
    """The only one of its kind; where there are several, the component's."""
    found = of_kind(manifests, kind)
    if len(found) > 1:
        found = [
            manifest
            for manifest in found
            if manifest["metadata"]["labels"]["app.kubernetes.io/component"] == component
        ]
    (only,) = found
    return only


def templates(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    """Whatever makes pods, by kind and name, with the pods' template."""
    for manifest in manifests:
        name, spec = f"{manifest['kind']} {manifest['metadata']['name']}", manifest.get("spec", {})
        if "template" in spec:
            yield name, spec["template"]
        if manifest["kind"] == "RayJob":
            cluster = spec["rayClusterSpec"]
            yield f"{name}, submitter", spec["submitterPodTemplate"]
            yield f"{name}, head", cluster["headGroupSpec"]["template"]
            for group in cluster["workerGroupSpecs"]:
                yield f"{name}, {group['groupName']}", group["template"]


def pods(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    """As `templates`, with the pods' own specification."""
    for name, template in templates(manifests):
        yield name, template["spec"]


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def variables(container: Manifest) -> dict[str, str]:
    """Environment of a container; what a secret holds is shown as the secret's name."""
    environment = {}
    for variable in container.get("env", []):
        source = variable.get("valueFrom", {})
        secret = source.get("secretKeyRef")
        shown = variable.get("value") if secret is None else secret["name"]
        environment[variable["name"]] = "1" if shown is None else shown  # a number of cores
    return environment
