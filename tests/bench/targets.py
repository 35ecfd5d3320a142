"""What the service is meant to reach, as ratios within one run."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tests.bench.measuring import Key, Measurement
from tests.bench.rows.batch import LOAD as BATCH
from tests.bench.rows.choice import LOAD as CHOICE
from tests.bench.rows.engine import IN_WAVES, ONE_BY_ONE
from tests.bench.rows.generate import LOAD as GENERATE
from tests.bench.rows.utterances import MANY, closed_name
from tests.bench.rows.vllm_server import LOAD as VLLM_SERVER

Found = Mapping[Key, Measurement]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what was measured of it.

    Attributes:
        at_least: whether more is better; otherwise `wanted` is the most that is allowed.
    """

    name: str
    value: float
    wanted: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.value >= self.wanted if self.at_least else self.value <= self.wanted


@dataclass(frozen=True, slots=True)
class _Target:
    name: str
    value: Callable[[Found], float]  # raises KeyError where a row was not measured
    wanted: float
    at_least: bool


def verdicts(measurements: Iterable[Measurement]) -> list[Verdict]:
    """Those targets whose rows were measured."""
    by_key = {measurement.key: measurement for measurement in measurements}
    judged = []
    for target in _TARGETS:
        try:
            value = target.value(by_key)
        except KeyError:
            continue
        judged.append(Verdict(target.name, value, target.wanted, target.at_least))
    return judged


def _rates(over: Key, under: Key) -> Callable[[Found], float]:
    return lambda by_key: by_key[over].per_second / by_key[under].per_second


def _medians(over: Key, under: Key) -> Callable[[Found], float]:
    return lambda by_key: by_key[over].latency_ms.p50 / by_key[under].latency_ms.p50


def _computed(key: Key) -> Callable[[Found], float]:
    return lambda by_key: by_key[key].computed_share


_GENERATE: Key = ("a", GENERATE, None)
_CHOICE: Key = ("b", CHOICE, None)


def _targets(demonstrations: bool) -> list[_Target]:
    named = "with demonstrations" if demonstrations else "without demonstrations"
    engine: Key = ("c", IN_WAVES, demonstrations)
    alone: Key = ("c", ONE_BY_ONE, demonstrations)
    batch: Key = ("d", BATCH, demonstrations)
    server: Key = ("c'", VLLM_SERVER, demonstrations)
    remote: Key = ("d'", BATCH, demonstrations)
    one: Key = ("e", closed_name(1), demonstrations)
    many: Key = ("e", closed_name(MANY), demonstrations)
    of_generate = 4.0 if demonstrations else 6.0
    computed = 0.40 if demonstrations else 0.25
    targets = [_Target(f"batch / generate, {named}", _rates(batch, _GENERATE), of_generate, True)]
    if not demonstrations:
        targets.append(_Target(f"batch / choice, {named}", _rates(batch, _CHOICE), 4.0, True))
    return [
        *targets,
        _Target(f"batch / engine, {named}", _rates(batch, engine), 0.85, True),
        _Target(f"batch on a server / vLLM's server, {named}", _rates(remote, server), 0.85, True),
        _Target(f"{MANY} conversations / engine, {named}", _rates(many, engine), 0.70, True),
        _Target(f"p50 of 1 conversation / engine, {named}", _medians(one, alone), 1.25, False),
        _Target(f"computed share, batch, {named}", _computed(batch), computed, False),
        _Target(f"computed share, {MANY} conversations, {named}", _computed(many), computed, False),
    ]


_TARGETS = (*_targets(demonstrations=False), *_targets(demonstrations=True))
