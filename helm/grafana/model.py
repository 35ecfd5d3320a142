"""What a dashboard consists of, and how Grafana writes it.

Source: Grafana's JSON model of dashboards, schema version 39
(https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]
Kind = Literal["timeseries", "stat", "bargauge", "heatmap", "table"]

# The series of the processes that are looked at, and the window of a rate.
OURS = '{job=~"$job", instance=~"$instance"}'
EACH = "[$__rate_interval]"

_WIDTH = 24  # of a dashboard, in Grafana's columns
_SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA = 39


def ours(*matchers: str) -> str:
    """Some of the series of the processes that are looked at."""
    return OURS.removesuffix("}") + "".join(f", {matcher}" for matcher in matchers) + "}"


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and what its series are called: text with `{{label}}` in it."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One question, and its answer as a picture.

    Attributes:
        unit: as Grafana names it, https://github.com/grafana/grafana,
            packages/grafana-data/src/valueFormats/categories.ts.
        most: end of the axis; None: what the numbers need.
        stacked: series on top of each other, where they are parts of a whole.
        lines: values at which something is due, drawn across.
        words: what numbers mean.
        columns: labels that a table shows.
        width, height: in Grafana's columns and rows.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    most: float | None = None
    stacked: bool = False
    lines: tuple[float, ...] = ()
    words: tuple[tuple[float, str], ...] = ()
    columns: tuple[str, ...] = ()
    width: int = 8
    height: int = 8


@dataclass(frozen=True, slots=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """What a reader may choose.

    Attributes:
        query: whose values they are, in PromQL as Grafana extends it; None: the reader writes one.
        value: at first; None: all of them.
    """

    name: str
    label: str
    description: str
    query: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Rows of panels, and what a reader may choose beside the processes.

    Attributes:
        name: of its file, and what its address ends with.
    """

    name: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]

    @property
    def panels(self) -> Iterator[Panel]:
        """Every panel, from top to bottom."""
        for row in self.rows:
            yield from row.panels


_JOB = Variable(
    "job", "Job", "Name of the service in Prometheus.", "label_values(erc_build_info, job)"
)
_INSTANCE = Variable(
    "instance",
    "Process",
    "Address of a process.",
    'label_values(erc_build_info{job=~"$job"}, instance)',
)


def as_json(dashboard: Dashboard) -> Json:
    """What Grafana imports."""
    return {
        "uid": dashboard.name,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["instructerc"],
        "schemaVersion": _SCHEMA,
        "editable": False,
        "graphTooltip": 1,  # one crosshair in all panels
        "refresh": "30s",
        "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "description": "The Prometheus that watches the service.",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {"text": "default", "value": "default"},
                },
                *map(_variable, (_JOB, _INSTANCE, *dashboard.variables)),
            ]
        },
        "panels": list(_placed(dashboard)),
    }


def _variable(variable: Variable) -> Json:
    common = {
        "name": variable.name,
        "label": variable.label,
        "description": variable.description,
    }
    if variable.query is None:
        chosen = {"text": variable.value, "value": variable.value}
        return {**common, "type": "textbox", "query": variable.value, "current": chosen}
    asked: Json = {
        **common,
        "type": "query",
        "datasource": _SOURCE,
        "definition": variable.query,
        "query": {"query": variable.query, "refId": variable.name},
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
    }
    if variable.value is not None:
        return {**asked, "current": {"text": variable.value, "value": variable.value}}
    return {
        **asked,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
    }


def _placed(dashboard: Dashboard) -> Iterator[Json]:
    """Rows and panels with their places, from left to right and from top to bottom."""
    top, number = 0, 1
    for row in dashboard.rows:
        place = {"x": 0, "y": top, "w": _WIDTH, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": place,
            "panels": [],
        }
        top, number, left, tallest = top + 1, number + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > _WIDTH:
                top, left, tallest = top + tallest, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            left, number, tallest = left + panel.width, number + 1, max(tallest, panel.height)
        top += tallest


def _panel(panel: Panel) -> Json:
    fields: Json = {"unit": panel.unit, "color": {"mode": "palette-classic"}}
    if panel.kind in ("timeseries", "bargauge"):
        fields["min"] = 0
    if panel.most is not None:
        fields["max"] = panel.most
    if panel.kind == "timeseries":
        fields["custom"] = _curves(panel)
    if panel.lines:
        fields["thresholds"] = {
            "mode": "absolute",
            "steps": [
                {"color": "transparent", "value": None},
                *({"color": "red", "value": line} for line in panel.lines),
            ],
        }
    if panel.words:
        fields["mappings"] = [
            {
                "type": "value",
                "options": {f"{value:g}": {"text": text, "index": n}},
            }
            for n, (value, text) in enumerate(panel.words)
        ]
    written: Json = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": fields, "overrides": []},
        "options": _options(panel),
        "targets": [_target(panel, n, query) for n, query in enumerate(panel.queries)],
    }
    if panel.kind == "table":
        shown = {"include": {"names": list(panel.columns)}}
        written["transformations"] = [{"id": "filterFieldsByName", "options": shown}]
    return written


def _curves(panel: Panel) -> Json:
    drawn: Json = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 30 if panel.stacked else 5,
        "showPoints": "never",
    }
    if panel.stacked:
        drawn["stacking"] = {"mode": "normal", "group": "A"}
    if panel.lines:
        drawn["thresholdsStyle"] = {"mode": "dashed"}
    return drawn


def _options(panel: Panel) -> Json:
    last = {"values": False, "calcs": ["lastNotNull"], "fields": ""}
    match panel.kind:
        case "timeseries":
            return {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case "stat":
            return {"reduceOptions": last, "colorMode": "none", "graphMode": "area"}
        case "bargauge":
            return {"reduceOptions": last, "orientation": "horizontal", "displayMode": "basic"}
        case "heatmap":
            return {
                "calculate": False,
                "color": {"mode": "scheme", "scheme": "Blues", "steps": 32},
                "yAxis": {"unit": panel.unit},
                "tooltip": {"mode": "single"},
                "legend": {"show": True},
            }
        case "table":
            return {"showHeader": True}


def _target(panel: Panel, number: int, query: Query) -> Json:
    once = panel.kind in ("bargauge", "table")
    return {
        "refId": "ABCDEFGH"[number],
        "datasource": _SOURCE,
        "expr": query.expression,
        "legendFormat": query.legend,
        "instant": once,
        "range": not once,
        "format": {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series"),
    }
