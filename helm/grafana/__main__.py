"""Writes the dashboards into the chart."""

from helm.grafana.files import DASHBOARDS, path_of, text_of

for dashboard in DASHBOARDS:
    path_of(dashboard).write_text(text_of(dashboard), encoding="utf-8")
