"""Numbers as they are written for Prometheus."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

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
