"""Percentiles, and what a service says of its stages."""

import pytest

from service.observability.metrics import Metrics
from tests.bench.measuring import (
    Percentiles,
    ProcessorTime,
    percentiles_ms,
    stage_percentiles_ms,
    stages_of,
    this_process,
)
from tests.bench.service_metrics import Tokens, tokens_of


def test_percentiles_are_measured_values_in_milliseconds() -> None:
    """By nearest rank, whatever the order: of 1 to 200 ms the 100th, the 190th and the 198th."""
    seconds = [n / 1000 for n in range(200, 0, -1)]

    percentiles = percentiles_ms(seconds)

    assert (percentiles.p50, percentiles.p95, percentiles.p99) == pytest.approx((100, 190, 198))


def test_percentiles_of_one_value_are_that_value() -> None:
    assert percentiles_ms([0.25]) == Percentiles(250, 250, 250)


def test_there_is_no_percentile_of_nothing() -> None:
    """A row that measured nothing must not look fast."""
    with pytest.raises(ValueError, match="nothing"):
        percentiles_ms([])


@pytest.mark.parametrize(
    ("header", "stages"),
    [
        ("store;dur=1.5, encode;dur=20", {"store": 0.0015, "encode": 0.02}),
        ('cache;desc="hit", decode;desc="one pass";dur=4', {"decode": 0.004}),
        ("store;DUR=2", {"store": 0.002}),
        ("", {}),
    ],
)
def test_stages_are_read_from_a_server_timing_header(header: str, stages: dict[str, float]) -> None:
    """In seconds; an entry without a duration is none."""
    assert stages_of(header) == pytest.approx(stages)


def test_each_stage_has_percentiles_over_the_answers_that_name_it() -> None:
    """Answers without the header, or without the stage, are left out."""
    headers = ["store;dur=1", "store;dur=3, encode;dur=8", None, "store;dur=2"]

    percentiles = stage_percentiles_ms(headers)

    assert percentiles["store"].p50 == pytest.approx(2)
    assert percentiles["encode"].p99 == pytest.approx(8)


def test_tokens_are_read_from_the_metrics_of_the_service() -> None:
    """As the service writes them; and the difference of two readings."""
    from prometheus_client import generate_latest

    metrics = Metrics()
    metrics.prompt_tokens.inc(100)
    before = tokens_of(generate_latest(metrics.registry).decode())
    metrics.prompt_tokens.inc(200)
    metrics.cached_tokens.inc(150)

    after = tokens_of(generate_latest(metrics.registry).decode())

    assert before == Tokens(100, 0)
    assert after.since(before) == Tokens(200, 150)


def test_metrics_without_the_counters_are_refused() -> None:
    """Rather than read as no tokens."""
    with pytest.raises(ValueError, match="erc_prompt_tokens_total"):
        tokens_of("erc_requests_total 3.0\n")


def test_processor_time_grows_with_work() -> None:
    """Of the processes that were there: of this one, doing sums."""
    processor = ProcessorTime(this_process)

    while processor.seconds() == 0:
        sum(range(10_000))

    assert processor.seconds() > 0
