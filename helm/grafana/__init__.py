"""The dashboards as code; `python -m helm.grafana` writes what the chart and Grafana read."""
