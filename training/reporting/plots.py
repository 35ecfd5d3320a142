"""Plots as SVG: pure functions from numbers to elements, drawn with the classes of their page.

Colours are the page's (`page`), so that they suit light and dark; what a colour tells is told a
second time, by dashes, by a number or by a name. Each plot has a title and a description for those
who do not see it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from training.reporting.markup import Content, element

_CHARACTER = 6.6  # about the width of one, in a font of 12
_LINE = 18  # height of a line of text
_TICKS = 6  # about so many on an axis
_COLOURS = 8  # as many as the page has
_DARK = 0.62  # from this share on, a cell's number is written for a dark ground
_DASHES = ("none", "7 3", "2 3", "9 3 2 3")


@dataclass(frozen=True, slots=True)
class Axis:
    """The label and the range of an axis; shares are written in percent."""

    label: str
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class Series:
    """A line through points (x, y), in its own colour and dashes.

    Attributes:
        weights: of each point, from 0 to 1: the area of its mark.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """A value and its interval, in the colour of series `number`."""

    name: str
    value: float
    low: float
    high: float
    number: int


def line_chart(
    key: str,
    title: str,
    description: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    diagonal: bool = False,
) -> Element:
    """Lines over each other, with a legend below.

    Args:
        key: what the plot's ids begin with; of its own in the page.
        diagonal: draw where x and y are equal.
    """
    left, top, width, height = 56.0, 12.0, 340.0, 250.0
    across, up = _Scale(x, left, left + width), _Scale(y, top + height, top)
    parts = [*_across(across, top, top + height), *_up(up, left, left + width)]
    if diagonal:
        low, high = max(x.low, y.low), min(x.high, y.high)
        parts.append(
            _line(across(low), up(low), across(high), up(high), class_="even", name="equal")
        )
    legend = top + height + 58
    for number, one in enumerate(series):
        parts.append(_drawn(one, number, across, up))
        parts.append(_legend(one.name, number, left, legend + number * _LINE))
    return _svg(key, title, description, left + width + 16, legend + len(series) * _LINE, parts)


def span_chart(
    key: str, title: str, description: str, spans: Sequence[Span], x: Axis, zero: bool = False
) -> Element:
    """Values with their intervals, one below the other.

    Args:
        zero: draw a line at 0.
    """
    left = 20 + _CHARACTER * max(len(span.name) for span in spans)
    top, width, row = 8.0, 340.0, 26.0
    bottom = top + row * len(spans)
    across = _Scale(x, left, left + width)
    parts = _across(across, top, bottom)
    if zero:
        parts.append(_line(across(0), top, across(0), bottom, class_="even", name="no lead"))
    for place, span in enumerate(spans):
        y = top + row * (place + 0.5)
        value, low, high = map(_percent, (span.value, span.low, span.high))
        parts += [
            _label(span.name, left - 8, y + 4, "end"),
            element(
                "g",
                element("title", f"{span.name}: {value} ({low} to {high})"),
                _line(across(span.low), y, across(span.high), y),
                _line(across(span.low), y - 4, across(span.low), y + 4),
                _line(across(span.high), y - 4, across(span.high), y + 4),
                element("circle", cx=across(span.value), cy=y, r=4.5),
                class_=_colour(span.number),
            ),
        ]
    return _svg(key, title, description, left + width + 24, bottom + 46, parts)


def heat_map(
    key: str,
    title: str,
    description: str,
    labels: Sequence[str],
    counts: Sequence[Sequence[float]],
    down: str,
    across: str,
) -> Element:
    """A square of counts, each cell as dark as its share of its row.

    Args:
        down, across: what rows and columns are.
    """
    room = 12 + _CHARACTER * max(map(len, labels))
    cell = 44.0
    left, top = room + 22, 0.75 * room + 26
    side = cell * len(labels)
    upright = _turned(-90, 14, top + side / 2)
    parts = [
        _label(across, left + side / 2, 14, "middle", "axis"),
        _label(down, 14, top + side / 2, "middle", "axis", transform=upright),
    ]
    for n, (label, row) in enumerate(zip(labels, counts, strict=True)):
        x, y = left + n * cell, top + n * cell
        slanting = _turned(-40, x + cell / 2, top - 8)
        parts.append(_label(label, left - 8, y + cell / 2 + 3, "end"))
        parts.append(_label(label, x + cell / 2, top - 8, "start", transform=slanting))
        for m, count in enumerate(row):
            share = count / sum(row) if sum(row) else 0.0
            said = f"{label}, said {labels[m]}: {count:g}, {_percent(share)}%"
            parts.append(_cell(said, left + m * cell, y, cell - 2, count, share))
    return _svg(key, title, description, left + side + 0.75 * room, top + side + 8, parts)


def _cell(said: str, x: float, y: float, side: float, count: float, share: float) -> Element:
    written = "on-heat" if share > _DARK else "on-page"
    return element(
        "g",
        element("title", said),
        element("rect", x=x, y=y, width=side, height=side, fill_opacity=share, class_="heat"),
        _label(f"{count:.0f}", x + side / 2, y + side / 2 + 4, "middle", written),
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """From an axis's values to places in the plot."""

    axis: Axis
    start: float
    end: float

    def __call__(self, value: float) -> float:
        part = (value - self.axis.low) / (self.axis.high - self.axis.low)
        return self.start + part * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values, a step of 1, 2 or 5 apart."""
        span = self.axis.high - self.axis.low
        size = 10 ** math.floor(math.log10(span / _TICKS))
        step = next(size * n for n in (1, 2, 5, 10) if span / (size * n) <= _TICKS)
        first = math.ceil(self.axis.low / step - 1e-9)
        last = math.floor(self.axis.high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]


def _across(scale: _Scale, top: float, bottom: float) -> list[Element]:
    """The axis below a plot, with a thin line at each tick."""
    parts = [_label(scale.axis.label, (scale.start + scale.end) / 2, bottom + 38, "middle", "axis")]
    for tick in scale.ticks():
        parts.append(_line(scale(tick), top, scale(tick), bottom, class_="grid"))
        parts.append(_label(_percent(tick), scale(tick), bottom + 18, "middle"))
    return parts


def _up(scale: _Scale, left: float, right: float) -> list[Element]:
    """The axis left of a plot, with a thin line at each tick."""
    middle = (scale.start + scale.end) / 2
    parts = [
        _label(scale.axis.label, 14, middle, "middle", "axis", transform=_turned(-90, 14, middle))
    ]
    for tick in scale.ticks():
        parts.append(_line(left, scale(tick), right, scale(tick), class_="grid"))
        parts.append(_label(_percent(tick), left - 8, scale(tick) + 4, "end"))
    return parts


def _drawn(series: Series, number: int, across: _Scale, up: _Scale) -> Element:
    weights = series.weights or (0.03,) * len(series.points)
    places = [(across(x), up(y)) for x, y in series.points]
    marks = [
        element(
            "circle",
            element("title", f"{series.name}: {_percent(x)}, {_percent(y)}"),
            cx=place[0],
            cy=place[1],
            r=2 + 10 * math.sqrt(weight),
            fill_opacity=0.5,
        )
        for (x, y), place, weight in zip(series.points, places, weights, strict=True)
    ]
    return element(
        "g",
        element(
            "polyline",
            points=" ".join(f"{x:.2f},{y:.2f}" for x, y in places),
            stroke_dasharray=_DASHES[number % len(_DASHES)],
        ),
        *marks,
        class_=_colour(number),
    )


def _legend(name: str, number: int, x: float, y: float) -> Element:
    dashes = _DASHES[number % len(_DASHES)]
    return element(
        "g",
        element("line", x1=x, y1=y - 4, x2=x + 30, y2=y - 4, stroke_dasharray=dashes),
        _label(name, x + 38, y, "start"),
        class_=f"legend {_colour(number)}",
    )


def _svg(
    key: str, title: str, description: str, width: float, height: float, parts: Sequence[Content]
) -> Element:
    return element(
        "svg",
        element("title", title, id=f"{key}-title"),
        element("desc", description, id=f"{key}-description"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {math.ceil(width)} {math.ceil(height)}",
        width=math.ceil(width),
        height=math.ceil(height),
        role="img",
        aria_labelledby=f"{key}-title",
        aria_describedby=f"{key}-description",
    )


def _line(x1: float, y1: float, x2: float, y2: float, **more: str) -> Element:
    name = more.pop("name", None)
    titles = [] if name is None else [element("title", name)]
    return element("line", *titles, x1=x1, y1=y1, x2=x2, y2=y2, **more)


def _label(
    text: str, x: float, y: float, anchor: str, class_: str = "label", **more: str
) -> Element:
    return element("text", text, x=x, y=y, text_anchor=anchor, class_=class_, **more)


def _turned(degrees: float, x: float, y: float) -> str:
    return f"rotate({degrees:g} {x:.2f} {y:.2f})"


def _colour(number: int) -> str:
    return f"series series-{number % _COLOURS}"


def _percent(share: float) -> str:
    return f"{round(100 * share, 1):g}"
