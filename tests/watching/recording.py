"""What the dashboards' panels are answered while a service is at work."""

import asyncio
import math
import time
from dataclasses import dataclass
from pathlib import Path

from helm.grafana.files import DASHBOARDS
from helm.grafana.model import Panel
from tests.watching.asking import as_asked, chosen
from tests.watching.conversations import Crowd, converse
from tests.watching.prometheus import Labels, Point, Prometheus
from tests.watching.running import service_and_prometheus

_INTERVAL_S = 5
_SETTLED_S = 30  # rates need some scrapes


@dataclass(frozen=True, slots=True)
class Drawn:
    """A series with its name."""

    name: str
    labels: Labels
    points: tuple[Point, ...]


# Of each panel, by its title.
Answers = dict[str, tuple[Drawn, ...]]


def record(folder: Path, seconds: float) -> dict[str, Answers]:
    """Let people talk, now more and now less of them, and ask what each dashboard shows of it.

    Returns each dashboard's answers, by its name.
    """
    crowd = Crowd(
        talks=16,
        pause_s=lambda so_far_s: 2.2 - 1.4 * math.sin(so_far_s / 60),
        batch_s=25,
        burst_s=150,
    )
    with service_and_prometheus(folder, _INTERVAL_S, {"ERC_ADMISSION__BATCHES": "4"}) as running:
        start = time.time() + _SETTLED_S
        asyncio.run(converse(running.url, crowd, _SETTLED_S + seconds))
        end = time.time()
        return {
            dashboard.name: {
                panel.title: tuple(_answer(running.server, panel, start, end))
                for panel in dashboard.panels
            }
            for dashboard in DASHBOARDS
        }


def _answer(server: Prometheus, panel: Panel, start: float, end: float) -> list[Drawn]:
    series = []
    for query in panel.queries:
        expression = as_asked(query.expression, chosen(4 * _INTERVAL_S))
        for labels, points in server.ask_range(expression, start, end, _INTERVAL_S):
            numbers = tuple(point for point in points if not math.isnan(point[1]))
            series.append(Drawn(_named(query.legend, labels), labels, numbers))
    return series


def _named(legend: str, labels: Labels) -> str:
    for label, value in labels.items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    return legend
