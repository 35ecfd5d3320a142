"""Plots, read as the XML that they are."""

import colorsys
import re
from importlib.resources import files
from xml.etree import ElementTree

import pytest

from training.reporting.plots import Axis, Series, Span, heat_map, line_chart, span_chart

SVG = "{http://www.w3.org/2000/svg}"
LINES = line_chart(
    "p1",
    "How it goes",
    "It falls.",
    [
        Series("ours", ((0.0, 1.0), (0.5, 0.75), (1.0, 0.5))),
        Series("<theirs> & more", ((0.0, 0.5), (1.0, 0.5)), (0.25, 1.0)),
    ],
    Axis("answered, %"),
    Axis("right, %", 0.5, 1.0),
)
SPANS = span_chart(
    "p2",
    "Leads",
    "They lead.",
    [Span("a rather long name", 0.02, -0.01, 0.05, 0), Span("short", 0.1, 0.08, 0.12, 9)],
    Axis("lead, points", -0.02, 0.12),
    zero=True,
)
HEAT = heat_map(
    "p3",
    "Confusions",
    "Rows are gold.",
    ["joy", "no emotion"],
    [[30.0, 10.0], [0.0, 0.0]],
    "gold label",
    "said label",
)
PLOTS = pytest.mark.parametrize("plot", [LINES, SPANS, HEAT], ids=["lines", "spans", "heat"])


def written(plot: ElementTree.Element) -> ElementTree.Element:
    """As somebody else reads it."""
    return ElementTree.fromstring(ElementTree.tostring(plot))


def part(of: ElementTree.Element, tag: str) -> ElementTree.Element:
    """The first such element right inside another."""
    return next(one for one in of if one.tag == f"{SVG}{tag}")


def texts(plot: ElementTree.Element) -> list[str]:
    return [one.text or "" for one in written(plot).iter(f"{SVG}text")]


@PLOTS
def test_plot_is_told_to_those_who_do_not_see_it(plot: ElementTree.Element) -> None:
    """As one image, with a title and a description that it refers to."""
    svg = written(plot)

    assert svg.get("role") == "img"
    assert [svg[0].tag, svg[1].tag] == [f"{SVG}title", f"{SVG}desc"]
    assert svg[0].get("id") == svg.get("aria-labelledby")
    assert svg[1].get("id") == svg.get("aria-describedby")
    assert svg[0].text
    assert svg[1].text


@PLOTS
def test_nothing_is_drawn_outside(plot: ElementTree.Element) -> None:
    """Lines, circles and cells lie within the size that the plot claims; so do unturned texts."""
    svg = written(plot)
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    assert (float(svg.attrib["width"]), float(svg.attrib["height"])) == (width, height)

    for one in svg.iter():
        for keys, limit in ((("x", "x1", "x2", "cx"), width), (("y", "y1", "y2", "cy"), height)):
            assert all(0 <= float(one.get(key, 0)) <= limit for key in keys), one.attrib
        if one.tag == f"{SVG}text" and "transform" not in one.attrib:
            wide = 6.6 * len(one.text or "")
            left = {"start": 0.0, "middle": 0.5, "end": 1.0}[one.attrib["text-anchor"]]
            x = float(one.attrib["x"]) - left * wide
            assert x >= -1, one.text
            assert x + wide <= width + 1, one.text


@PLOTS
def test_plot_reaches_for_nothing(plot: ElementTree.Element) -> None:
    """No address but the name of its format, and no colour but its page's."""
    text = ElementTree.tostring(plot, encoding="unicode")

    assert text.count("http") == text.count('xmlns="http://www.w3.org/2000/svg"') == 1
    assert not re.search(r"url\(|href|<style|<script|#[0-9a-f]{3}|rgb", text)


def test_line_goes_through_its_points() -> None:
    """The left lower corner is (0, 0.5), the right upper one (1, 1)."""
    first, second = (
        [tuple(map(float, place.split(","))) for place in line.attrib["points"].split()]
        for line in written(LINES).iter(f"{SVG}polyline")
    )

    (left, top), (middle, _), (right, bottom) = first
    assert middle == pytest.approx((left + right) / 2)
    assert first[1][1] == pytest.approx((top + bottom) / 2)
    assert second == [(left, bottom), (right, bottom)]


def test_axes_and_lines_are_named() -> None:
    """In percent; names that look like markup are text."""
    labels = texts(LINES)

    assert {"answered, %", "right, %", "ours", "<theirs> & more"} <= set(labels)
    assert labels[1:7] == ["0", "20", "40", "60", "80", "100"]
    assert labels[8:14] == ["50", "60", "70", "80", "90", "100"]


def test_lines_are_told_apart_without_colours() -> None:
    """Each has dashes of its own, in the plot and in the legend; a mark's area is its weight."""
    svg = written(LINES)

    drawn = [line.attrib["stroke-dasharray"] for line in svg.iter(f"{SVG}polyline")]
    legend = [
        part(group, "line").attrib["stroke-dasharray"]
        for group in svg.iter(f"{SVG}g")
        if "legend" in group.attrib["class"].split()
    ]
    assert drawn == legend
    assert len(set(drawn)) == 2
    small, large = [float(c.attrib["r"]) for c in svg.iter(f"{SVG}circle")][-2:]
    assert (small - 2) * 2 == pytest.approx(large - 2)


def test_spans_are_named_and_lie_about_zero() -> None:
    """The first contains no lead at all, the second does not; each has its own row and colour."""
    svg = written(SPANS)
    (zero,) = (line for line in svg.iter(f"{SVG}line") if line.get("class") == "even")
    groups = list(svg.iter(f"{SVG}g"))
    ends = [
        [float(line.attrib[end]) for end in ("x1", "x2")]
        for line in (part(group, "line") for group in groups)
    ]

    assert ends[0][0] < float(zero.attrib["x1"]) < ends[0][1]
    assert float(zero.attrib["x1"]) < ends[1][0] < ends[1][1]
    assert [group.attrib["class"] for group in groups] == ["series series-0", "series series-1"]
    assert [group[0].text for group in groups] == [
        *("a rather long name: 2 (-1 to 5)", "short: 10 (8 to 12)")
    ]
    assert {"a rather long name", "short", "lead, points"} <= set(texts(SPANS))


def test_cell_is_as_dark_as_its_share_of_the_row() -> None:
    """A label that nobody has leaves its row empty."""
    svg = written(HEAT)

    assert [float(cell.attrib["fill-opacity"]) for cell in svg.iter(f"{SVG}rect")] == [
        *(0.75, 0.25, 0.0, 0.0)
    ]
    numbers = [one for one in svg.iter(f"{SVG}text") if (one.text or "").isdigit()]
    assert [one.text for one in numbers] == ["30", "10", "0", "0"]
    assert [one.attrib["class"] for one in numbers] == ["on-heat"] + ["on-page"] * 3
    assert next(svg.iter(f"{SVG}g"))[0].text == "joy, said joy: 30, 75%"
    assert {"gold label", "said label", "joy", "no emotion"} <= set(texts(HEAT))


def test_many_lines_have_colours_that_the_page_has() -> None:
    """Eight, then from the beginning."""
    many = [Series(f"m{n}", ((0.0, 0.1), (1.0, 0.2))) for n in range(10)]

    svg = written(line_chart("k", "t", "d", many, Axis("x"), Axis("y")))

    used = {n for g in svg.iter(f"{SVG}g") for n in re.findall(r"series-(\d+)", g.attrib["class"])}
    assert used == set(map(str, range(8)))
    for n in used:
        assert f".series-{n} {{ --own: var(--series-{n}); }}" in CSS


CSS = files("training.reporting").joinpath("report.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part))
    for part in CSS.split("body {")[0].split("@media")
)


def channels(colour: str) -> list[float]:
    return [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]


def contrast(one: list[float], other: list[float]) -> float:
    """Of WCAG 2.2, 1 to 21."""

    def luminance(colour: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_everything_can_be_read_in_light_and_dark(theme: dict[str, str]) -> None:
    """Text at 4.5 to 1, whatever the cell that it stands on, and lines at 3 to 1."""
    assert theme.keys() == LIGHT.keys()
    back = channels(theme["back"])

    assert contrast(channels(theme["text"]), back) >= 7
    assert contrast(channels(theme["faint"]), back) >= 4.5
    for n in range(8):
        assert contrast(channels(theme[f"series-{n}"]), back) >= 3
    for share in range(101):
        row = [[float(share), 100.0 - share], [1.0, 1.0]]
        svg = written(heat_map("k", "t", "d", ["a", "b"], row, "down", "across"))
        cell = next(one for one in svg.iter(f"{SVG}g"))
        opacity = float(part(cell, "rect").attrib["fill-opacity"])
        ground = [
            opacity * heat + (1 - opacity) * page
            for heat, page in zip(channels(theme["heat"]), back, strict=True)
        ]
        written_in = channels(theme[part(cell, "text").attrib["class"]])
        assert contrast(written_in, ground) >= 4.5, share


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_differ(theme: dict[str, str]) -> None:
    """No two lines share a hue and a lightness."""
    colours = [colorsys.rgb_to_hls(*channels(theme[f"series-{n}"])) for n in range(8)]

    assert len({(round(h, 2), round(lightness, 2)) for h, lightness, _ in colours}) == 8
