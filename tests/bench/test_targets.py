"""Which targets a run meets."""

from dataclasses import replace

import pytest

from tests.bench.measuring import Measurement, Percentiles
from tests.bench.rows import batch, choice, engine, generate, utterances
from tests.bench.targets import Verdict, verdicts


def measurement(
    row: str, load: str, demonstrations: bool | None, *, rate: float = 100, p50: float = 10
) -> Measurement:
    return Measurement(
        row=row,
        load=load,
        demonstrations=demonstrations,
        what="",
        utterances=int(rate * 10),
        seconds=10.0,
        latency_ms=Percentiles(p50, p50, p50),
        prompt_tokens=1000,
        computed_tokens=250,
        processor_s=1.0,
    )


def judged(*measurements: Measurement) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in verdicts(measurements)}


GENERATE = measurement("a", generate.LOAD, None, rate=20)


def test_a_target_at_its_bound_is_met() -> None:
    """Six times as many utterances a second, no more."""
    batches = measurement("d", batch.LOAD, False, rate=120)

    verdict = judged(GENERATE, batches)["batch / generate, without demonstrations"]

    assert verdict == Verdict(verdict.name, 6.0, 6.0, at_least=True)
    assert verdict.met


def test_a_target_below_its_bound_is_missed() -> None:
    """With demonstrations four times are wanted."""
    batches = measurement("d", batch.LOAD, True, rate=79)

    verdict = judged(GENERATE, batches)["batch / generate, with demonstrations"]

    assert verdict.value == pytest.approx(3.95)
    assert not verdict.met


def test_the_median_of_one_conversation_is_to_stay_below_its_bound() -> None:
    """Less is better there."""
    alone = measurement("c", engine.ONE_BY_ONE, True, p50=8)
    slow = measurement("e", utterances.closed_name(1), True, p50=10.1)

    name = "p50 of 1 conversation / engine, with demonstrations"

    assert not judged(alone, slow)[name].met
    assert judged(alone, replace(slow, latency_ms=Percentiles(10, 11, 12)))[name].met


def test_the_computed_share_has_a_bound_for_each_variant() -> None:
    """A quarter without demonstrations, two fifths with them."""
    shares = judged(
        measurement("d", batch.LOAD, False),
        replace(measurement("d", batch.LOAD, True), computed_tokens=401),
    )

    assert shares["computed share, batch, without demonstrations"].met
    assert not shares["computed share, batch, with demonstrations"].met


def test_what_was_not_measured_is_not_judged() -> None:
    """A run of some rows judges what it can."""
    assert judged(GENERATE) == {}


def test_a_run_of_all_rows_judges_every_target() -> None:
    """Seven without demonstrations, six with them, each at its own line of the table."""
    everything = [GENERATE, measurement("b", choice.LOAD, None)]
    for shown in (False, True):
        everything += [
            measurement("c", engine.ONE_BY_ONE, shown),
            measurement("c", engine.IN_WAVES, shown),
            measurement("d", batch.LOAD, shown),
            measurement("e", utterances.closed_name(1), shown),
            measurement("e", utterances.closed_name(utterances.MANY), shown),
        ]

    assert len(judged(*everything)) == 13
