"""Numbers as they are written for Prometheus."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from service.observability.exposition import exposition

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


@pytest.fixture
def registries() -> tuple[CollectorRegistry, CollectorRegistry]:
    """One of fifty counters, and another of one."""
    many, one = CollectorRegistry(), CollectorRegistry()
    for n in range(50):
        Counter(f"many_{n}", "One of many.", registry=many)
    Counter("alone", "Alone.", registry=one).inc(3, {"trace_id": "1" * 32})
    return many, one


async def test_all_registries_are_written_as_the_library_writes_one(
    registries: tuple[CollectorRegistry, CollectorRegistry],
) -> None:
    """One after the other."""
    written, media_type = await exposition("", *registries)

    assert written == b"".join(map(generate_latest, registries))
    assert media_type == "text/plain; version=0.0.4; charset=utf-8"


async def test_openmetrics_has_exemplars_and_one_end(
    registries: tuple[CollectorRegistry, CollectorRegistry],
) -> None:
    written, media_type = await exposition(OPENMETRICS, *registries)

    assert media_type.startswith("application/openmetrics-text; version=1.0.0")
    assert written.count(b"# EOF") == 1
    assert written.endswith(b"\n# EOF\n")
    assert f'alone_total 3.0 # {{trace_id="{"1" * 32}"}} 3.0'.encode() in written


@pytest.mark.parametrize(
    "accept",
    [
        pytest.param("text/plain;version=0.0.4", id="text"),
        pytest.param(OPENMETRICS, id="Prometheus 2"),
        pytest.param(f"{OPENMETRICS};escaping=allow-utf-8", id="Prometheus 3"),
    ],
)
async def test_a_name_with_a_colon_is_the_same_in_every_format(accept: str) -> None:
    """vLLM's have one, and dashboards ask for them by it."""
    registry = CollectorRegistry()
    Gauge("vllm:cache", "How full it is.", ("engine",), registry=registry).labels("0").set(0.5)
    Counter("vllm:hits", "Found there.", registry=registry).inc(2)

    written, _ = await exposition(accept, registry)

    assert b'\nvllm:cache{engine="0"} 0.5\n' in written
    assert b"\nvllm:hits_total 2.0\n" in written


async def test_others_go_on_while_it_is_written(
    registries: tuple[CollectorRegistry, CollectorRegistry],
) -> None:
    """Nobody waits for more than one family."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await exposition("", *registries)
    beside.cancel()

    assert turns >= 51
