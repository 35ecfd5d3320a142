"""Numbers as they are written for Prometheus."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

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
        "",
        OPENMETRICS,
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
        "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",  # Prometheus 2.42
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.2",  # Prometheus 3
    ],
)
async def test_names_are_the_same_whoever_asks(accept: str) -> None:
    """vLLM's have colons, which dashboards ask for."""
    registry = CollectorRegistry()
    Counter("vllm:hits", "Of vLLM.", registry=registry).inc(2)
    Histogram("vllm:wait_seconds", "Of vLLM.", registry=registry).observe(2)

    written, _ = await exposition(accept, registry)

    lines = written.decode().splitlines()
    assert {"vllm:hits_total 2.0", "vllm:wait_seconds_count 1.0"} <= set(lines)
    assert "vllm_" not in written.decode()


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
