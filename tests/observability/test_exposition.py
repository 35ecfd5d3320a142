"""Numbers as they are written out."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from service.observability.exposition import exposition


@pytest.mark.parametrize(
    "accept",
    [
        pytest.param("text/plain;version=0.0.4", id="text"),
        pytest.param("application/openmetrics-text;version=1.0.0", id="Prometheus 2"),
        pytest.param(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8", id="Prometheus 3"
        ),
    ],
)
async def test_a_name_with_a_colon_is_the_same_in_every_format(accept: str) -> None:
    """vLLM's have one, and dashboards ask for them by it."""
    registry = CollectorRegistry()
    Gauge("vllm:cache", "How full it is.", ("engine",), registry=registry).labels("0").set(0.5)
    Counter("vllm:hits", "Found there.", registry=registry).inc(2)

    text, _ = await exposition(accept, registry)

    assert b'\nvllm:cache{engine="0"} 0.5\n' in text
    assert b"\nvllm:hits_total 2.0\n" in text
