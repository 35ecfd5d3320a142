"""Every expression that operators rely on, asked of a real Prometheus beside a service at work.

A label that is spelled otherwise than the service does is no error to Prometheus: there is nothing
then, for ever. So what answers nothing here is wrong, or known to be silent.
"""

import asyncio
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser
import pytest

from helm.grafana.files import DASHBOARDS
from tests.helm.expressions import selectors
from tests.helm.rendering import installation, the
from tests.helm.test_rules import rules
from tests.watching.asking import as_asked, chosen
from tests.watching.conversations import Crowd, converse
from tests.watching.prometheus import BINARY, Prometheus
from tests.watching.running import POD, service_and_prometheus

# Enough of every kind for 200 predictions in a label space, on cores that others use too.
LOAD_S, ROUNDS = 20, 6
INTERVAL_S = 1

# Families that have nothing here, and why.
SILENT = {
    "DCGM_FI_DEV_GPU_UTIL": "is of NVIDIA's exporter, where there are GPUs",
    "DCGM_FI_DEV_FB_USED": "is of NVIDIA's exporter, where there are GPUs",
    "DCGM_FI_DEV_FB_FREE": "is of NVIDIA's exporter, where there are GPUs",
    "erc_engine_server_reads_total": "is of servers of vLLM's own, and vLLM runs in the process",
}


@dataclass(frozen=True, slots=True)
class Watched:
    """A Prometheus that has seen a service at work, and until when it was."""

    server: Prometheus
    at: float

    def ask(self, expression: str) -> list[float]:
        """What an expression came to, as far as it is a number."""
        series = self.server.ask(expression, self.at)
        return [value for _, value in series if not math.isnan(value)]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    if BINARY is None:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    folder = tmp_path_factory.mktemp("watched")
    # Fewer batches than come at a time: some are refused.
    settings = {"ERC_ADMISSION__BATCHES": "2"}
    crowd = Crowd(talks=8, pause_s=lambda _: 0.1, batch_s=2, burst_s=3)
    with service_and_prometheus(folder, INTERVAL_S, settings) as running:
        for _ in range(ROUNDS):
            asyncio.run(converse(running.url, crowd, LOAD_S))
            if running.server.ask("erc_label_drift"):
                break
        yield Watched(running.server, time.time())


def every_query() -> list[Any]:
    """Of the dashboards: what panels show, and what readers choose from."""
    expressions = [
        (f"{dashboard.name}: {panel.title} {number}", query.expression)
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for number, query in enumerate(panel.queries)
    ]
    for dashboard in DASHBOARDS:
        for variable in dashboard.variables:
            if variable.query is not None:
                values = re.fullmatch(r"label_values\((.+), (\w+)\)", variable.query)
                assert values is not None
                query = f"count by ({values[2]}) ({values[1]})"
                expressions.append((f"{dashboard.name}: ${variable.name}", query))
    return [
        pytest.param(as_asked(expression, chosen(15)), id=name) for name, expression in expressions
    ]


def known_to_be_silent(expression: str) -> bool:
    return bool(SILENT.keys() & {one.name for one in selectors(promql_parser.parse(expression))})


@pytest.mark.parametrize("expression", every_query())
def test_every_panel_and_choice_of_the_dashboards_shows_something(
    watched: Watched, expression: str
) -> None:
    """Or is known to be silent, and then is."""
    assert bool(watched.ask(expression)) is not known_to_be_silent(expression)


@pytest.mark.parametrize(
    "rule", [pytest.param(rule, id=rule["record"]) for rule in rules("record")]
)
def test_every_recording_rule_records(watched: Watched, rule: dict[str, Any]) -> None:
    assert watched.ask(rule["expr"])
    assert watched.ask(rule["record"])


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in rules("alert")])
def test_every_alert_looks_at_something(watched: Watched, rule: dict[str, Any]) -> None:
    """It may come to nothing, as nothing is wrong; what it is made of may not."""
    watched.ask(rule["expr"])
    for selector in selectors(promql_parser.parse(rule["expr"])):
        assert watched.ask(selector.prettify()), selector.prettify()


def test_the_service_at_work_is_called_neither_hung_nor_gone(watched: Watched) -> None:
    """What is refused here is a large share of what is asked, which the objectives do see."""
    firing = {labels["alertname"] for labels, _ in watched.server.ask("ALERTS", watched.at)}
    assert not firing & {"ErcNoProcess", "ErcEngineHung", "ErcDegraded", "ErcIndexStale"}
    assert "ErcAvailabilityBudgetBurnsFast" in firing


def test_keda_is_told_what_is_under_way(watched: Watched) -> None:
    """By the query that the chart renders, in the namespace that it is installed in."""
    scaled = the(installation("scaled by KEDA, behind a gateway"), "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    (count,) = watched.ask(trigger["metadata"]["query"])
    assert count >= 0


def test_the_horizontal_autoscaler_asks_for_a_number_of_each_pod(watched: Watched) -> None:
    """Which prometheus-adapter serves by its name."""
    scaled = the(installation("scaled by Kubernetes, batch beside it"), "HorizontalPodAutoscaler")
    for metric in scaled["spec"]["metrics"]:
        name = metric["pods"]["metric"]["name"]
        assert watched.ask(f'sum by (pod) ({name}{{pod="{POD}"}})') != []


def test_what_is_misspelled_shows_nothing(watched: Watched) -> None:
    """Otherwise the tests above could not fail."""
    assert watched.ask('erc_queue_length{priority="interaktive"}') == []
    assert watched.ask('erc_queue_length{priority="interactive"}') != []
