"""Dashboards and rules reach the cluster as they are in the chart's folders."""

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.helm.rendering import CHART, INSTALLATIONS, installation, of_kind, render, the
from tests.helm.test_rules import ALERTS
from tests.helm.test_schemas import OPERATORS

PRODUCTION = INSTALLATIONS["production"]
RULES = """\
# What to do: see the runbook.
groups:
  - name: service
    rules:
      - record: service:requests:rate5m
        expr: sum(rate(erc_requests_total[5m]))
      - alert: Degraded
        expr: rate(erc_degraded_total[5m]) > 0
        for: 5m
        labels: {severity: page}
        annotations:
          summary: '{{ $labels.part }} is away at {{ $value | humanize }} a second'
"""
DASHBOARD = {"title": "Service", "panels": [{"legendFormat": "{{route}}", "title": "é\n\"'"}]}


def with_files(folder: Path) -> Path:
    """A copy of the chart with a dashboard and a file of rules, and no others."""
    chart = folder / "instructerc"
    shutil.copytree(CHART, chart)
    for name in ("dashboards", "rules"):
        shutil.rmtree(chart / name, ignore_errors=True)
        (chart / name).mkdir()
    (chart / "rules" / "alerts.yaml").write_text(RULES, "utf-8")
    text = json.dumps(DASHBOARD, indent=2, ensure_ascii=False)
    (chart / "dashboards" / "service.json").write_text(text, "utf-8")
    return chart


def test_a_dashboard_arrives_unchanged(tmp_path: Path) -> None:
    """Grafana's own braces are not taken for Helm's."""
    config_map = the(tuple(render(PRODUCTION, with_files(tmp_path))), "ConfigMap")

    assert json.loads(config_map["data"]["service.json"]) == DASHBOARD
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_rules_arrive_unchanged(tmp_path: Path) -> None:
    """Prometheus' braces neither; labels lead Prometheus to them."""
    rule = the(tuple(render(PRODUCTION, with_files(tmp_path))), "PrometheusRule")

    assert rule["spec"] == yaml.safe_load(RULES)
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    jsonschema.validate(rule, OPERATORS["PrometheusRule"])


def test_alerts_lead_to_the_runbook_where_the_operator_keeps_it() -> None:
    """Each to its own section."""
    address = "https://wiki.example/erc"
    rules = of_kind(
        tuple(render({**PRODUCTION, "metrics": {"rules": {"enabled": True, "runbook": address}}})),
        "PrometheusRule",
    )

    led = {
        rule["alert"]: rule["annotations"]["runbook_url"]
        for manifest in rules
        for group in manifest["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert led == {name: f"{address}#{name.lower()}" for name in ALERTS}


def test_a_chart_without_any_is_whole(tmp_path: Path) -> None:
    """Folders may be empty."""
    chart = with_files(tmp_path)
    (chart / "rules" / "alerts.yaml").unlink()
    (chart / "dashboards" / "service.json").unlink()

    kinds = {manifest["kind"] for manifest in render(PRODUCTION, chart)}

    assert not kinds & {"ConfigMap", "PrometheusRule"}
    assert "ServiceMonitor" in kinds


def test_every_file_of_the_chart_is_an_object() -> None:
    """What lies in the folders is what is installed."""

    def contents(kind: str) -> list[Any]:
        monitors = of_kind(installation("production"), kind)
        if kind == "PrometheusRule":
            return [manifest["spec"] for manifest in monitors]
        return [json.loads(text) for manifest in monitors for text in manifest["data"].values()]

    rules = [yaml.safe_load(p.read_text("utf-8")) for p in sorted(CHART.glob("rules/*.yaml"))]
    boards = [json.loads(p.read_text("utf-8")) for p in sorted(CHART.glob("dashboards/*.json"))]

    assert sorted(contents("PrometheusRule"), key=str) == sorted(rules, key=str)
    assert sorted(contents("ConfigMap"), key=str) == sorted(boards, key=str)


def test_a_scrape_shows_its_key() -> None:
    """From a secret, where `/metrics` needs one."""
    monitor = the(installation("production"), "ServiceMonitor")["spec"]

    assert monitor["endpoints"][0]["path"] == "/metrics"
    assert monitor["endpoints"][0]["authorization"] == {
        "type": "Bearer",
        "credentials": {"name": "erc-scrape", "key": "key"},
    }
