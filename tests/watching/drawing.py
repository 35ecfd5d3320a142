"""A dashboard's time series as a picture: a chart for each panel, three in a row, as SVG."""

import math
from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element, tostring

from helm.grafana.model import Dashboard, Panel
from tests.watching.recording import Answers, Drawn
from training.reporting.markup import element

_IN_A_ROW, _WIDTH, _HEIGHT, _LINE = 3, 400, 170, 15  # pixels; the legend comes below the height
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, _WIDTH - 24, 30, _HEIGHT - 24  # of the curves
_COLOURS = (
    "#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0",
    "#508642", "#cca300", "#447ebc", "#c15c17",
)  # fmt: skip
_STYLE = """
svg { font: 11px sans-serif } .ground { fill: #181b1f } text { fill: #9fa7b3 }
.row { font-size: 15px; fill: #d8d9da } .title { font-size: 12px; fill: #d8d9da }
.end { text-anchor: end } .middle { text-anchor: middle }
.grid { stroke: #2c3235 } .due { stroke: #e24d42; stroke-dasharray: 4 3 }
polyline { fill: none } polygon { fill-opacity: 0.3 }
"""


def picture(dashboard: Dashboard, answers: Answers) -> str:
    """The charts of a dashboard's time series, row by row, as a file's text."""
    times = sorted({at for series in answers.values() for one in series for at, _ in one.points})
    parts = [element("text", dashboard.title, x=8, y=20, class_="row")]
    top = 30
    for row in dashboard.rows:
        panels = [panel for panel in row.panels if panel.kind == "timeseries"]
        if panels:
            parts.append(element("text", row.title, x=8, y=top + 18, class_="row"))
            top += 26
        for first in range(0, len(panels), _IN_A_ROW):
            most_names = 0
            for column, panel in enumerate(panels[first : first + _IN_A_ROW]):
                series = [one for one in answers[panel.title] if one.points]
                chart = _chart(panel, series, times)
                place = f"translate({column * _WIDTH} {top})"
                parts.append(element("g", *chart, transform=place))
                most_names = max(most_names, len(series))
            top += _HEIGHT + most_names * _LINE + 10
    svg = element(
        "svg",
        element("title", dashboard.title),
        element("desc", dashboard.description),
        element("style", _STYLE),
        element("rect", width=_IN_A_ROW * _WIDTH, height=top, class_="ground"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_IN_A_ROW * _WIDTH} {top}",
    )
    return tostring(svg, encoding="unicode") + "\n"


def _chart(panel: Panel, series: Sequence[Drawn], times: Sequence[float]) -> Iterator[Element]:
    yield element("title", panel.description)
    yield element("text", panel.title, x=8, y=18, class_="title")
    if not series:
        yield element("text", "No data", x=_WIDTH / 2, y=_HEIGHT / 2, class_="middle")
        return
    stacks = _stacked(series, times) if panel.stacked else [dict(one.points) for one in series]
    highest = max(value for stack in stacks for value in stack.values())
    step = _step(min(highest, panel.most or math.inf) or 1, panel.unit)
    most = step * max(1, math.ceil(highest / step - 1e-9))

    def x(at: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (at - times[0]) / max(1, times[-1] - times[0]), 1)

    def y(value: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * value / most, 1)

    for n in range(round(most / step) + 1):
        at = y(n * step)
        yield element("line", x1=_LEFT, x2=_RIGHT, y1=at, y2=at, class_="grid")
        label = _written(n * step, panel.unit)
        yield element("text", label, x=_LEFT - 6, y=at + 4, class_="end")
    for minute in range(0, int(times[-1] - times[0]) // 60 + 1, 2):
        place = x(times[0] + 60 * minute)
        yield element("text", f"{minute} min", x=place, y=_BOTTOM + 14, class_="middle")
    for line in panel.lines:
        if line <= most:
            yield element("line", x1=_LEFT, x2=_RIGHT, y1=y(line), y2=y(line), class_="due")
    ground: Mapping[float, float] = {}
    for number, (one, stack) in enumerate(zip(series, stacks, strict=True)):
        colour = _COLOURS[number % len(_COLOURS)]
        if panel.stacked:
            above = [f"{x(at):g},{y(value):g}" for at, value in stack.items()]
            below = [f"{x(at):g},{y(ground.get(at, 0)):g}" for at in reversed(stack)]
            yield element("polygon", points=" ".join(above + below), fill=colour)
            ground = stack
        for run in _unbroken(stack, times):
            points = " ".join(f"{x(at):g},{y(stack[at]):g}" for at in run)
            yield element("polyline", points=points, stroke=colour)
        base = _HEIGHT + number * _LINE
        yield element("rect", x=_LEFT, y=base - 5, width=10, height=3, fill=colour)
        yield element("text", one.name, x=_LEFT + 14, y=base)


def _stacked(series: Sequence[Drawn], times: Sequence[float]) -> list[dict[float, float]]:
    """Each series on top of those before it."""
    stacks, ground = [], dict.fromkeys(times, 0.0)
    for one in series:
        values = dict(one.points)
        ground = {at: low + values.get(at, 0.0) for at, low in ground.items()}
        stacks.append(ground)
    return stacks


def _step(highest: float, unit: str) -> float:
    """A round step, at most four of which reach the highest value."""
    if unit == "bytes":
        return 2**30 * _step(highest / 2**30, "GiB")
    size = 10.0 ** math.floor(math.log10(highest / 4))
    return next(size * n for n in (1, 2, 2.5, 5, 10) if highest / (size * n) <= 4)


def _written(value: float, unit: str) -> str:
    """A number with its unit, as Grafana writes it."""
    factor, name = {
        "percentunit": (100, " %"),
        "percent": (1, " %"),
        "s": (1000, " ms") if 0 < value < 1 else (1, " s"),
        "bytes": (2**-30, " GiB"),
        "reqps": (1, " req/s"),
        "none": (1, ""),
        "short": (1, ""),
    }.get(unit, (1, unit.removeprefix("suffix:")))
    number = factor * value
    text = f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"
    return f"${text}" if unit == "currencyUSD" else f"{text}{name}"


def _unbroken(stack: Mapping[float, float], times: Sequence[float]) -> Iterator[list[float]]:
    """The times of a curve that follow each other."""
    run: list[float] = []
    for at in times:
        if at in stack:
            run.append(at)
        elif run:
            yield run
            run = []
    if run:
        yield run
