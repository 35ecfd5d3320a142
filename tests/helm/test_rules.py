"""Alerts and recording rules: promtool's opinion, and what they come to for made-up series."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from service.api.problems.kinds import KINDS

CHART = Path(__file__).resolve().parents[2] / "helm" / "instructerc"
RULES = sorted(CHART.glob("rules/*.yaml"))
CASES = sorted(Path(__file__).with_name("rules").glob("*.yaml"))
RUNBOOK = (CHART / "RUNBOOK.md").read_text("utf-8")

# Of what fails and of what is slow, as the runbook has them.
BUDGETS = {"erc_request_errors": 0.001, "erc_slow_turns": 0.01}
FACTORS = {
    "page": {("1h", "5m"): 14.4, ("6h", "30m"): 6},
    "ticket": {("1d", "2h"): 3, ("3d", "6h"): 1},
}


def rules(kind: str) -> list[dict[str, Any]]:
    """Every rule of a kind: alert or record."""
    return [
        rule
        for path in RULES
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
        if kind in rule
    ]


ALERTS = {rule["alert"]: rule for rule in rules("alert")}


@pytest.fixture
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return path


def output_of(*command: str) -> str:
    """What a command prints; it must not fail."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_promtool_finds_no_fault(promtool: str, path: Path) -> None:
    """Syntax, templates, duplicates."""
    output_of(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(path))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_and_keep_silent_as_the_cases_say(promtool: str, path: Path) -> None:
    output_of(promtool, "test", "rules", str(path))


def test_each_alert_has_cases_in_which_it_fires_and_in_which_it_does_not() -> None:
    cases = [
        case
        for path in CASES
        for test in yaml.safe_load(path.read_text("utf-8"))["tests"]
        for case in test.get("alert_rule_test", ())
    ]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_how_urgent_it_is_and_where_to_read_on(name: str) -> None:
    """One section of the runbook is its own, and no section is of an alert that is not there."""
    alert = ALERTS[name]
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["runbook_url"] == f"RUNBOOK.md#{name.lower()}"
    assert re.search(rf"^## {name}$", RUNBOOK, re.MULTILINE)


def test_the_runbook_is_of_these_alerts_and_its_links_lead_somewhere() -> None:
    headings = re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)
    assert headings == ["Objectives", *headings[1:]]
    assert set(headings[1:]) == set(ALERTS)
    assert set(re.findall(r"\]\(#(\w+)\)", RUNBOOK)) <= {heading.lower() for heading in headings}


def test_the_runbook_names_problems_that_there_are() -> None:
    """What a reader looks up under *Problems by type* is what the service calls it."""
    named = re.search(r"^1\. \*Problems by type\*.*?^2\.", RUNBOOK, re.MULTILINE | re.DOTALL)
    known = set(KINDS)
    assert named is not None
    assert set(re.findall(r"`([a-z]+-[a-z]+|overloaded)`", named[0])) <= known


@pytest.mark.parametrize("name", [name for name in ALERTS if "Budget" in name])
def test_an_alert_of_an_objective_has_the_windows_and_factors_of_the_workbook(name: str) -> None:
    """Table 5-8 of the SRE workbook, for the budget that the runbook has."""
    alert = ALERTS[name]
    burns = re.findall(r":(\w+):ratio_rate(\w+) > ([\d.]+) \* ([\d.]+)", alert["expr"])
    ratios = {ratio for ratio, *_ in burns}
    (ratio,) = ratios
    assert {float(budget) for *_, budget in burns} == {BUDGETS[ratio]}
    assert f"| {BUDGETS[ratio]:g} |" in RUNBOOK
    pairs = {
        (long[1], short[1]): float(long[2])
        for long, short in zip(burns[::2], burns[1::2], strict=True)
    }
    assert pairs == FACTORS[alert["labels"]["severity"]]
    assert [long[2] for long in burns[::2]] == [short[2] for short in burns[1::2]]


@pytest.mark.parametrize("ratio", BUDGETS)
def test_the_windows_of_an_objective_differ_in_nothing_else(ratio: str) -> None:
    """Each rule is named for the window that it looks at."""
    forms = set()
    for rule in rules("record"):
        named = re.fullmatch(rf"namespace_job:{ratio}:ratio_rate(\w+)", rule["record"])
        if named is not None:
            windows = set(re.findall(r"\[(\w+)\]", rule["expr"]))
            assert windows == {named[1]}
            forms.add(rule["expr"].replace(f"[{named[1]}]", "[]"))
    assert len(forms) == 1


@pytest.mark.parametrize(
    "rule",
    [*rules("alert"), *rules("record")],
    ids=lambda rule: rule.get("alert", rule.get("record")),
)
def test_an_expression_is_promql(rule: dict[str, Any]) -> None:
    """Where promtool is not installed, too."""
    promql_parser.parse(rule["expr"])
