"""A dashboard as a picture, from what its panels were answered: what Grafana shows, less neatly.

SVG, with the places and colours of Grafana's dark theme.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from xml.etree.ElementTree import Element, tostring

from helm.grafana.model import Dashboard, Panel
from tests.watching.recording import Answers, Drawn
from training.reporting.markup import element

_COLUMN, _ROW, _GAP = 50, 26, 6  # pixels
_COLOURS = (
    "#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0",
    "#508642", "#cca300", "#447ebc", "#c15c17",
)  # fmt: skip
_CHARACTER = 6.1  # about the width of one, in a font of 11
_LINE = 15
_STYLE = """
svg { font: 11px sans-serif } .ground { fill: #111217 }
text { fill: #9fa7b3 } .row { font-size: 15px; fill: #d8d9da }
.title { fill: #d8d9da; font-size: 12px }
.big { font-size: 30px; fill: #d8d9da; text-anchor: middle } .end { text-anchor: end }
.middle { text-anchor: middle } .panel { fill: #181b1f; stroke: #2c3235 }
.grid { stroke: #2c3235 }
.due { stroke: #e24d42; stroke-dasharray: 4 3 }
"""


def picture(dashboard: Dashboard, answers: Answers) -> str:
    """All panels at their places, as a file's text."""
    times = sorted({at for series in answers.values() for one in series for at, _ in one.points})
    parts = [element("text", dashboard.title, x=8, y=20, class_="row")]
    top, width = 30.0, 24 * _COLUMN
    for row in dashboard.rows:
        parts.append(element("text", row.title, x=8, y=top + 18, class_="row"))
        top, left, tallest = top + 26, 0.0, 0.0
        for panel in row.panels:
            wide, high = panel.width * _COLUMN, panel.height * _ROW
            if left + wide > width:
                top, left, tallest = top + tallest, 0.0, 0.0
            box = _Box(left + _GAP / 2, top + _GAP / 2, wide - _GAP, high - _GAP, times)
            parts.append(box.panel(panel, answers[panel.title]))
            left, tallest = left + wide, max(tallest, high)
        top += tallest
    svg = element(
        "svg",
        element("title", dashboard.title),
        element("desc", dashboard.description),
        element("style", _STYLE),
        element("rect", width=width, height=math.ceil(top) + 8, class_="ground"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {math.ceil(top) + 8}",
    )
    return tostring(svg, encoding="unicode") + "\n"


class _Box:
    """Room for a panel, and the times that all panels show."""

    def __init__(
        self, x: float, y: float, width: float, height: float, times: Sequence[float]
    ) -> None:
        self.x, self.y, self.width, self.height = x, y, width, height
        self.times = times

    def panel(self, panel: Panel, series: Sequence[Drawn]) -> Element:
        shown = [one for one in series if one.points]
        draw = {
            "timeseries": self._curves,
            "stat": self._numbers,
            "bargauge": self._bars,
            "heatmap": self._heat,
            "table": self._table,
        }[panel.kind]
        return element(
            "g",
            element(
                "rect", x=self.x, y=self.y, width=self.width, height=self.height, class_="panel"
            ),
            element("title", panel.description),
            element("text", panel.title, x=self.x + 8, y=self.y + 18, class_="title"),
            *(draw(panel, shown) if shown else self._nothing()),
        )

    def _nothing(self) -> Iterator[Element]:
        yield self._text("No data", 0.5, self.y + self.height / 2, "middle")

    def _text(self, said: str, across: float, y: float, class_: str) -> Element:
        return element(
            "text", said, x=_place(self.x + across * self.width), y=_place(y), class_=class_
        )

    def _curves(self, panel: Panel, series: Sequence[Drawn]) -> Iterator[Element]:
        legend = list(self._legend([one.name for one in series]))
        lines = 1 + max(line for _, _, line in legend)
        left, right = self.x + 62, self.x + self.width - 24
        top, bottom = self.y + 30, self.y + self.height - 24 - lines * _LINE
        times = self.times
        stacks = _stacked(series, times) if panel.stacked else [dict(one.points) for one in series]
        highest = max(value for stack in stacks for value in stack.values())
        step = _step(min(highest, panel.most or math.inf) or 1, panel.unit)
        most = step * max(1, math.ceil(highest / step - 1e-9))

        def across(at: float) -> str:
            return _place(left + (right - left) * (at - times[0]) / max(1, times[-1] - times[0]))

        def up(value: float) -> str:
            return _place(bottom - (bottom - top) * value / most)

        for n in range(round(most / step) + 1):
            y = up(n * step)
            yield element("line", x1=left, x2=right, y1=y, y2=y, class_="grid")
            yield element(
                "text", _written(n * step, panel.unit), x=left - 6, y=float(y) + 4, class_="end"
            )
        for at in _minutes(times):
            said = f"{(at - times[0]) / 60:.0f} min"
            yield element("text", said, x=across(at), y=bottom + 14, class_="middle")
        for line in panel.lines:
            if line <= most:
                yield element("line", x1=left, x2=right, y1=up(line), y2=up(line), class_="due")
        ground: Mapping[float, float] = {}
        for number, (one, stack) in enumerate(zip(series, stacks, strict=True)):
            colour = _COLOURS[number % len(_COLOURS)]
            if panel.stacked:
                path = [f"{across(at)},{up(value)}" for at, value in stack.items()]
                below = [f"{across(at)},{up(ground.get(at, 0))}" for at in reversed(stack)]
                yield element(
                    "polygon", points=" ".join(path + below), fill=colour, fill_opacity=0.3
                )
                ground = stack
            for run in _unbroken(stack, times):
                yield element(
                    "polyline",
                    element("title", one.name),
                    points=" ".join(f"{across(at)},{up(stack[at])}" for at in run),
                    fill="none",
                    stroke=colour,
                )
        for number, (name, x, line) in enumerate(legend):
            base = self.y + self.height - 8 - (lines - 1 - line) * _LINE
            colour = _COLOURS[number % len(_COLOURS)]
            yield element("rect", x=_place(x), y=base - 5, width=10, height=3, fill=colour)
            yield element("text", name, x=_place(x + 14), y=base)

    def _legend(self, names: Sequence[str]) -> Iterator[tuple[str, float, int]]:
        """Names with their places: x, and the line."""
        x, line = self.x + 10, 0
        for name in names:
            room = 26 + _CHARACTER * len(name)
            if x + room > self.x + self.width and x > self.x + 10:
                x, line = self.x + 10, line + 1
            yield name, x, line
            x += room

    def _numbers(self, panel: Panel, series: Sequence[Drawn]) -> Iterator[Element]:
        words = dict(panel.words)
        for number, one in enumerate(series):
            value = one.points[-1][1]
            said = words.get(value) or _written(value, panel.unit)
            across, middle = (number + 0.5) / len(series), self.y + self.height / 2
            yield self._text(said, across, middle + 14, "big")
            yield self._text(one.name, across, middle + 38, "middle")

    def _bars(self, panel: Panel, series: Sequence[Drawn]) -> Iterator[Element]:
        longest = 16 + _CHARACTER * max(len(one.name) for one in series)
        high = (self.height - 36) / len(series)
        for number, one in enumerate(series):
            value, y = one.points[-1][1], self.y + 28 + number * high
            full = self.width - longest - 60
            colour = _COLOURS[number % len(_COLOURS)]
            long = _place(full * value / (panel.most or 1))
            yield element(
                "rect",
                x=self.x + longest,
                y=_place(y + 1),
                width=long,
                height=_place(high - 2),
                fill=colour,
            )
            yield element(
                "text", one.name, x=self.x + longest - 6, y=_place(y + high / 2 + 4), class_="end"
            )
            yield element(
                "text",
                _written(value, panel.unit),
                x=_place(self.x + longest + float(long) + 6),
                y=_place(y + high / 2 + 4),
            )

    def _heat(self, panel: Panel, series: Sequence[Drawn]) -> Iterator[Element]:
        buckets = sorted(series, key=lambda one: float(one.labels["le"]))
        times = [at for at, _ in buckets[-1].points][::4]  # windows that do not overlap
        counts = []
        for below, one in pairwise([None, *buckets]):
            assert one is not None
            less = {} if below is None else dict(below.points)
            counts.append([max(0.0, dict(one.points).get(at, 0) - less.get(at, 0)) for at in times])
        most = max(map(max, counts)) or 1
        left, top = self.x + 62, self.y + 30
        wide, high = (self.width - 74) / len(times), (self.height - 42) / len(buckets)
        for number, (one, row) in enumerate(zip(buckets, counts, strict=True)):
            y = top + (len(buckets) - 1 - number) * high
            bound = "more" if one.labels["le"] == "+Inf" else f"≤ {float(one.labels['le']):g}"
            yield element("text", bound, x=left - 6, y=_place(y + high / 2 + 4), class_="end")
            for place, count in enumerate(row):
                if count > 0:
                    yield element(
                        "rect",
                        x=_place(left + place * wide),
                        y=_place(y),
                        width=_place(wide - 1),
                        height=_place(high - 1),
                        fill="#5794f2",
                        fill_opacity=round(0.1 + 0.9 * count / most, 2),
                    )

    def _table(self, panel: Panel, series: Sequence[Drawn]) -> Iterator[Element]:
        for place, column in enumerate(panel.columns):
            across = 0.02 + place / len(panel.columns)
            yield self._text(column, across, self.y + 44, "title")
            for line, one in enumerate(series, 1):
                said = one.labels.get(column, f"{one.points[-1][1]:g}")
                yield self._text(said, across, self.y + 44 + 18 * line, "cell")


def _stacked(series: Sequence[Drawn], times: Sequence[float]) -> list[dict[float, float]]:
    """Each series with those before it below."""
    stacks, ground = [], dict.fromkeys(times, 0.0)
    for one in series:
        values = dict(one.points)
        ground = {at: low + values.get(at, 0.0) for at, low in ground.items()}
        stacks.append(ground)
    return stacks


def _step(highest: float, unit: str) -> float:
    """A round one, of which four or fewer make the highest value."""
    if unit == "bytes":
        return 2**30 * _step(highest / 2**30, "GiB")
    size = 10.0 ** math.floor(math.log10(highest / 4))
    return next(size * n for n in (1, 2, 2.5, 5, 10) if highest / (size * n) <= 4)


def _minutes(times: Sequence[float]) -> Iterator[float]:
    at = times[0]
    while at <= times[-1]:
        yield at
        at += 120


def _place(pixels: float) -> str:
    return f"{pixels:.1f}".removesuffix(".0")


def _written(value: float, unit: str) -> str:
    """A number with its unit, as Grafana writes it."""
    match unit:
        case "percentunit":
            return f"{round(100 * value, 2):g} %"
        case "percent":
            return f"{round(value, 2):g} %"
        case "s" if 0 < value < 1:
            return f"{_rounded(1000 * value)} ms"
        case "s":
            return f"{_rounded(value)} s"
        case "bytes":
            return f"{_rounded(value / 2**30)} GiB"
        case "currencyUSD":
            return f"${_rounded(value)}"
        case "reqps":
            return f"{_rounded(value)} req/s"
        case "none" | "short":
            return _rounded(value)
        case _:
            return _rounded(value) + unit.removeprefix("suffix:")


def _rounded(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


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
