"""Dashboards as pictures."""

from xml.etree import ElementTree

import pytest

from helm.grafana.files import DASHBOARDS
from helm.grafana.model import Dashboard, Panel, Query, Row
from tests.watching.__main__ import path_of
from tests.watching.drawing import picture
from tests.watching.recording import Drawn

SVG = "{http://www.w3.org/2000/svg}"


def drawn(panel: Panel, *series: Drawn) -> ElementTree.Element:
    """A dashboard of one panel."""
    dashboard = Dashboard("one", "One", "One panel.", (), (Row("Row", (panel,)),))
    return ElementTree.fromstring(picture(dashboard, {panel.title: series}))


def panel(**more: object) -> Panel:
    query = Query("erc_queue_length", "{{priority}}")
    return Panel("Queue", "How many wait.", "short", (query,), **more)  # type: ignore[arg-type]


def texts(svg: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in svg.iter(f"{SVG}text")]


def heights(svg: ElementTree.Element) -> list[list[float]]:
    """Of each curve, how far down its points are."""
    return [
        [float(point.split(",")[1]) for point in curve.attrib["points"].split()]
        for curve in svg.iter(f"{SVG}polyline")
    ]


LOW = Drawn("low", {}, ((0, 1), (60, 1), (120, 1)))
RISING = Drawn("rising", {}, ((0, 0), (60, 1), (120, 3)))


def test_a_curve_goes_up_where_its_values_do() -> None:
    (curve,) = heights(drawn(panel(), RISING))
    bottom, middle, top = curve
    assert bottom - top == pytest.approx(3 * (bottom - middle), abs=0.2)
    assert bottom > middle > top


def test_stacked_curves_lie_on_each_other() -> None:
    """The upper one is their sum."""
    lower, upper = heights(drawn(panel(stacked=True), LOW, RISING))
    one = upper[0] - upper[1]  # it rises by one, and by two more
    assert lower == pytest.approx([upper[0]] * 3, abs=0.2)
    assert upper[1] - upper[2] == pytest.approx(2 * one, abs=0.2)


def test_a_curve_is_broken_where_there_was_nothing() -> None:
    """No value is not the last one."""
    broken = Drawn("broken", {}, ((0, 1), (120, 1)))
    assert [len(run) for run in heights(drawn(panel(), RISING, broken))] == [3, 1, 1]


def test_axes_and_names_say_what_is_seen() -> None:
    shown = texts(drawn(panel(), LOW, RISING))
    assert {"Queue", "low", "rising", "0", "1", "2", "3", "0 min", "2 min"} <= set(shown)


def test_a_line_is_drawn_where_the_values_come_near() -> None:
    near, far = drawn(panel(lines=(2,)), RISING), drawn(panel(lines=(50,)), RISING)
    due = f"{SVG}line[@class='due']"
    assert len(near.findall(f".//{due}")) == 1
    assert far.findall(f".//{due}") == []


def test_other_panels_than_time_series_are_left_out() -> None:
    """Grafana alone shows numbers, bars, heat maps and tables."""
    assert "Queue" not in texts(drawn(panel(kind="stat"), RISING))


def test_a_panel_without_an_answer_says_so() -> None:
    assert "No data" in texts(drawn(panel()))


@pytest.mark.parametrize("dashboard", [pytest.param(one, id=one.name) for one in DASHBOARDS])
def test_the_documents_have_pictures_of_these_dashboards(dashboard: Dashboard) -> None:
    """`make pictures` draws them anew, after a panel changed.

    Only what needs a GPU or a server of vLLM that fails has no data.
    """
    path = path_of(dashboard)
    svg = path.read_text("utf-8")
    shown = texts(ElementTree.fromstring(svg))
    titles = [panel.title for panel in dashboard.panels if panel.kind == "timeseries"]
    assert [text for text in shown if text in titles] == titles
    silent = {"instructerc-service": 3, "instructerc-quality": 0}
    assert shown.count("No data") == silent[dashboard.name]
    assert len(svg) < 250_000
    operations = (path.parents[2] / "docs" / "operations.md").read_text("utf-8")
    assert f"](../helm/pictures/{path.name})" in operations
