"""Where the dashboards are, and what is in them."""

import json
from pathlib import Path

from helm.grafana.model import Dashboard, as_json
from helm.grafana.quality import QUALITY
from helm.grafana.service import SERVICE

DASHBOARDS = (SERVICE, QUALITY)
_FOLDER = Path(__file__).resolve().parents[1] / "instructerc" / "dashboards"


def path_of(dashboard: Dashboard) -> Path:
    """The file that the chart and Grafana read."""
    return _FOLDER / f"{dashboard.name}.json"


def text_of(dashboard: Dashboard) -> str:
    """What is in it."""
    return json.dumps(as_json(dashboard), indent=2, ensure_ascii=False) + "\n"
