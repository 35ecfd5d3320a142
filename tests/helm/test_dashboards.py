"""What every dashboard and panel has; the rules of grafana/dashboard-linter are among them."""

import json
import re
from collections import Counter
from itertools import combinations
from typing import Any

import promql_parser
import pytest
from promql_parser import AggregateExpr, Call, MatrixSelector, VectorSelector

from helm.grafana.files import DASHBOARDS, path_of, text_of
from helm.grafana.model import Dashboard
from tests.helm.expressions import below, selectors
from tests.helm.test_rules import BUDGETS

_WINDOWS = {"$__rate_interval": "4m3s", "$cost_per_hour": "3"}
# Of Grafana's, packages/grafana-data/src/valueFormats/categories.ts; a suffix is one's own.
_UNITS = {"none", "short", "percent", "percentunit", "s", "bytes", "reqps", "currencyUSD"}

# A family that the exporter of GPUs has, which knows neither our job nor our processes.
_FOREIGN = "DCGM_"


def every_dashboard() -> list[Any]:
    return [pytest.param(dashboard, id=dashboard.name) for dashboard in DASHBOARDS]


def every_panel() -> list[Any]:
    return [
        pytest.param(panel, id=f"{dashboard.name}: {panel['title']}")
        for dashboard in DASHBOARDS
        for panel in written(dashboard)["panels"]
        if panel["type"] != "row"
    ]


def written(dashboard: Dashboard) -> dict[str, Any]:
    """What Grafana imports."""
    read: dict[str, Any] = json.loads(path_of(dashboard).read_text("utf-8"))
    return read


def parsed(expression: str) -> promql_parser.Expr:
    """An expression as it is when a reader has chosen."""
    for variable, value in _WINDOWS.items():
        expression = expression.replace(variable, value)
    return promql_parser.parse(expression)


def every_expression() -> list[Any]:
    return [
        pytest.param(panel.values[0]["title"], target["expr"], id=f"{panel.id} {target['refId']}")
        for panel in every_panel()
        for target in panel.values[0]["targets"]
    ]


@pytest.mark.parametrize("dashboard", every_dashboard())
def test_the_chart_has_what_the_code_makes(dashboard: Dashboard) -> None:
    """`make dashboards` writes it."""
    assert path_of(dashboard).read_text("utf-8") == text_of(dashboard)


def test_no_other_dashboard_is_in_the_chart() -> None:
    paths = {path_of(dashboard) for dashboard in DASHBOARDS}
    assert set(path_of(DASHBOARDS[0]).parent.glob("*")) == paths


@pytest.mark.parametrize("dashboard", every_dashboard())
def test_a_dashboard_lets_readers_choose_source_job_and_process(dashboard: Dashboard) -> None:
    """Each variable says what it is, and what is asked for anew when the time range changes."""
    model = written(dashboard)
    variables = {each["name"]: each for each in model["templating"]["list"]}
    assert model["editable"] is False
    assert model["title"]
    assert model["description"]
    assert list(variables)[:3] == ["datasource", "job", "instance"]
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    for name, variable in variables.items():
        assert variable["label"], name
        assert variable["description"], name
        if variable["type"] == "query":
            assert variable["datasource"]["uid"] == "${datasource}"
            assert variable["refresh"] == 2, name
    for name in ("job", "instance"):
        assert variables[name]["multi"]
        assert variables[name]["allValue"] == ".+"


@pytest.mark.parametrize("dashboard", every_dashboard())
def test_what_readers_choose_is_used_and_what_is_used_they_can_choose(dashboard: Dashboard) -> None:
    model = written(dashboard)
    chosen = {each["name"] for each in model["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(model["panels"])))
    assert used - {"__rate_interval"} == chosen


@pytest.mark.parametrize("dashboard", every_dashboard())
def test_panels_do_not_overlap(dashboard: Dashboard) -> None:
    """Each has an id of its own, a title of its own, and room of its own."""
    panels = written(dashboard)["panels"]
    assert max(Counter(panel["id"] for panel in panels).values()) == 1
    assert max(Counter(panel["title"] for panel in panels).values()) == 1
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below_it = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below_it, (one, other)
    assert max(panel["gridPos"]["x"] + panel["gridPos"]["w"] for panel in panels) == 24


@pytest.mark.parametrize("panel", every_panel())
def test_a_panel_says_what_it_shows_in_which_unit_and_from_where(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert defaults["unit"] in _UNITS or defaults["unit"].startswith("suffix:")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert target["legendFormat"]
        assert target["instant"] is not target["range"]


@pytest.mark.parametrize(("title", "expression"), every_expression())
def test_an_expression_is_of_the_chosen_processes(title: str, expression: str) -> None:
    """What is recorded of all processes of a job has no process."""
    for selector in selectors(parsed(expression)):
        of = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
        name = selector.name or ""
        if name.startswith(_FOREIGN):
            assert of["UUID"] == "$gpu"
            continue
        assert of["job"] == "$job", name
        recorded = ":" in name and not name.startswith("vllm:")
        assert ("instance" in of) is not recorded, name
        assert of.get("instance", "$instance") == "$instance", name


@pytest.mark.parametrize(("title", "expression"), every_expression())
def test_counters_are_shown_as_rates_and_rates_are_added_up(title: str, expression: str) -> None:
    """A rate is taken over the interval that suits the panel, or the title says over which."""
    for part, around in below(parsed(expression)):
        if isinstance(part, VectorSelector) and re.search(
            "_(total|bucket|sum|count)$", part.name or ""
        ):
            functions = [outer.func.name for outer in around if isinstance(outer, Call)]
            assert {"rate", "increase"} & set(functions), part.name
            assert any(isinstance(outer, AggregateExpr) for outer in around), part.name
        if isinstance(part, MatrixSelector):
            in_title = re.search(r"in (\d+) h$", title)
            window = f"[{in_title[1]}h]" if in_title else "[$__rate_interval]"
            assert set(re.findall(r"\[[^]]+\]", expression)) == {window}


@pytest.mark.parametrize(("title", "expression"), every_expression())
def test_objectives_are_those_of_the_alerts(title: str, expression: str) -> None:
    """How fast a budget burns is told in the budgets that people are called for."""
    for ratio, budget in re.findall(r":(\w+):ratio_rate1h\{[^}]+\} / ([\d.]+)", expression):
        assert float(budget) == BUDGETS[ratio]
