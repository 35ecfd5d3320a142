"""A report as one HTML file that needs nothing else: no script, no font, no address."""

import math
from collections.abc import Sequence
from importlib.resources import files
from xml.etree.ElementTree import Element, tostring

from training.evaluation.metrics import TITLES
from training.evaluation.seeds import Spread
from training.reporting.markup import element
from training.reporting.plots import Axis, Series, Span, heat_map, line_chart, span_chart
from training.reporting.report import ModelReport, SpaceReport

_HOW_TO_READ = (
    "F1, accuracy and agreement are in percent. Neutral counts unless stated otherwise.",
    "An interval contains 95 of 100 draws of whole dialogues. A lead is measured on the same "
    "draws for both models; “by chance” is small if the draw hardly explains the lead.",
    "± is the standard deviation over the seeds of a model, after their mean.",
    "Brier is the squared distance from the truth, 0 to 2. Calibration error is the mean gap "
    "between confidence and accuracy, 0 to 1. Both are better if lower.",
)
_CALIBRATED = (
    "“As said” is without any calibration, including the bundle's own. A temperature flattens or "
    "sharpens all labels alike; biases and isotonic curves, one per label, may change the "
    "predicted label. No calibration is judged on utterances that it was fitted on: without other "
    "utterances, each dialogue is calibrated with a fit on four fifths of the dialogues, not "
    "including itself."
)


def page(spaces: Sequence[SpaceReport]) -> str:
    """The HTML of a report, which is XML too; names of models and labels are escaped."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    style = files("training.reporting").joinpath("report.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", "Models compared"),
        element("style", style),
    )
    links = [
        element("li", element("a", space.label_space, href=f"#space-{n}"))
        for n, space in enumerate(spaces)
    ]
    body = element(
        "body",
        element(
            "header",
            element("h1", "Models compared"),
            element("ul", *(element("li", line) for line in _HOW_TO_READ)),
            element("nav", element("ul", *links), aria_label="Label spaces"),
        ),
        element("main", *(_space(f"space-{n}", space) for n, space in enumerate(spaces))),
    )
    whole = element("html", head, body, lang="en")
    return f"<!DOCTYPE html>\n{tostring(whole, encoding='unicode')}\n"


def _space(key: str, space: SpaceReport) -> Element:
    leads = [_leads(space), _figures(_lead_chart(key, space))] if space.leads else []
    return element(
        "section",
        element("h2", space.label_space, id=key),
        element("p", f"{space.utterances:,} utterances, {len(space.labels)} labels."),
        _scores(space),
        _figures(_score_chart(key, space)),
        *leads,
        *_other_ways(space),
        element("h3", "Calibration"),
        element("p", _CALIBRATED),
        _calibrations(space),
        element("h3", "Accuracy at coverage"),
        _figures(_coverage(key, space)),
        *(
            part
            for n, (name, model) in enumerate(space.models.items())
            for part in _model(f"{key}-{n}", name, model)
        ),
        aria_labelledby=key,
    )


def _scores(space: SpaceReport) -> Element:
    own, others = space.compared_by, [name for name in TITLES if name != space.compared_by]
    rows = []
    for name, model in space.models.items():
        m, span = model.measures, model.interval
        agreement = model.demonstration_agreement
        rows.append(
            [
                *(name, str(len(model.runs)), _percent(m[own])),
                f"{100 * span.low:.1f} to {100 * span.high:.1f}",
                *(_percent(m[share]) for share in others),
                *(_plain(m["brier"]), _plain(m["calibration_error"])),
                _plain(model.calibrations["temperature"].calibration_error),
                "none shown" if agreement is None else _percent(agreement),
                _plain(m["label_mass"]),
            ]
        )
    heads = [
        *("model", "runs", TITLES[own], "95%", *(TITLES[share] for share in others)),
        *("Brier", "calibration error", "calibration error, temperature"),
        *("nearest demonstration agrees", "label mass"),
    ]
    return _table("Scores", heads, rows)


def _score_chart(key: str, space: SpaceReport) -> Element:
    spans, own = [], TITLES[space.compared_by]
    for number, (name, model) in enumerate(space.models.items()):
        one = model.interval
        spans.append(Span(name, one.value, one.low, one.high, number))
    low, high = _round_ends([end for span in spans for end in (span.low, span.high)])
    return span_chart(
        f"{key}-scores",
        f"{own[0].upper()}{own[1:]} in {space.label_space}, with 95% intervals",
        _spans_said(spans),
        spans,
        Axis(f"{own}, %", low, high),
    )


def _leads(space: SpaceReport) -> Element:
    rows = [
        [
            *(name, f"{100 * lead.value:+.2f}"),
            *(f"{100 * lead.low:+.2f} to {100 * lead.high:+.2f}", f"{lead.by_chance:.3f}"),
        ]
        for name, lead in space.leads.items()
    ]
    heads = [f"lead of {space.first} over", TITLES[space.compared_by], "95%", "by chance"]
    return _table("Paired leads", heads, rows)


def _lead_chart(key: str, space: SpaceReport) -> Element:
    numbers = {name: number for number, name in enumerate(space.models)}
    spans = [
        Span(name, one.value, one.low, one.high, numbers[name]) for name, one in space.leads.items()
    ]
    low, high = _round_ends([0.0, *(end for span in spans for end in (span.low, span.high))])
    return span_chart(
        f"{key}-leads",
        f"Lead of {space.first} over each other model, with 95% intervals",
        _spans_said(spans),
        spans,
        Axis(f"lead of {space.first} in {TITLES[space.compared_by]}, points", low, high),
        zero=True,
    )


def _other_ways(space: SpaceReport) -> list[Element]:
    """What was measured by asking in other ways, if it was of any model."""
    rates_of = {
        name: (model.label_order_flip_rate, model.invalid_rate, model.free_decode_agreement)
        for name, model in space.models.items()
    }
    if not any(rate for rates in rates_of.values() for rate in rates):
        return []
    rows = [
        [name, *("not asked" if rate is None else _percent(rate) for rate in rates)]
        for name, rates in rates_of.items()
    ]
    heads = [
        *("model", "another order of the labels in the prompt changes the answer"),
        *("generated text is not a label", "generated text is the label with the highest score"),
    ]
    return [_table("Asked in other ways, % of answers", heads, rows)]


def _calibrations(space: SpaceReport) -> Element:
    kinds = list(next(iter(space.models.values())).calibrations)
    rows = []
    for name, model in space.models.items():
        calibrations = model.calibrations.values()
        rows.append(
            [
                *(name, _fitted_on(model)),
                *(_plain(one.calibration_error) for one in calibrations),
                *(_plain(one.brier) for one in calibrations),
                *(_percent(getattr(one, space.compared_by)) for one in calibrations),
            ]
        )
    heads = [
        f"{measure}, {kind}"
        for measure in ("calibration error", "Brier", TITLES[space.compared_by])
        for kind in kinds
    ]
    return _table("Before and after calibration", ["model", "fitted on", *heads], rows)


def _fitted_on(model: ModelReport) -> str:
    if model.fitted_on is None:
        return "other dialogues of the same (cross-fitted)"
    return f"{model.fitted_on:,} utterances given for it"


def _coverage(key: str, space: SpaceReport) -> Element:
    series = [
        Series(name, tuple(sorted(model.accuracy_at_coverage.items())))
        for name, model in space.models.items()
    ]
    lowest = min(y for one in series for _, y in one.points)
    said = (
        f"{one.name}: {100 * one.points[0][1]:.1f}% of the surest tenth are right, and "
        f"{100 * one.points[-1][1]:.1f}% of all."
        for one in series
    )
    return line_chart(
        f"{key}-coverage",
        f"Accuracy in {space.label_space} when only the surest are answered",
        " ".join(said),
        series,
        Axis("answered, the surest first, %", 0.0, 1.0),
        Axis("of them right, %", min(0.9, math.floor(10 * lowest) / 10), 1.0),
    )


def _model(key: str, name: str, model: ModelReport) -> list[Element]:
    rows = [
        [label, _percent(of.precision), _percent(of.recall), _percent(of.f1), f"{of.support:,}"]
        for label, of in model.labels.items()
    ]
    labels = list(model.labels)
    mistakes = sorted(
        (
            (count, labels[n], labels[m])
            for n, row in enumerate(model.confusion)
            for m, count in enumerate(row)
            if n != m
        ),
        reverse=True,
    )
    often = "; ".join(f"{gold} said {said}, {count:.0f}" for count, gold, said in mistakes[:3])
    series = [
        Series(
            f"{kind}, calibration error {fit.calibration_error.mean:.3f}",
            tuple((one.confidence, one.accuracy) for one in fit.reliability),
            tuple(one.share for one in fit.reliability),
        )
        for kind, fit in model.calibrations.items()
    ]
    return [
        element("h3", name, id=key),
        _table(f"{name}, by label", ["label", "precision", "recall", "F1", "utterances"], rows),
        _figures(
            heat_map(
                f"{key}-confusion",
                f"Confusions of {name}" + (", mean of its runs" if len(model.runs) > 1 else ""),
                "The darker a cell, the larger its share of the gold label. Most frequent: "
                f"{often}.",
                labels,
                model.confusion,
                "gold label",
                "said label",
            ),
            line_chart(
                f"{key}-reliability",
                f"Reliability of {name}",
                "On the dashed line, accuracy equals confidence. "
                + "; ".join(one.name for one in series),
                series,
                Axis("confidence, %"),
                Axis("right, %"),
                diagonal=True,
            ),
        ),
    ]


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Element:
    """The first cell of a row names it."""
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *(element("th", one, scope="col") for one in heads))),
        element(
            "tbody",
            *(
                element("tr", element("th", name, scope="row"), *(element("td", c) for c in cells))
                for name, *cells in rows
            ),
        ),
    )
    return element("div", table, class_="scroll", role="region", aria_label=caption, tabindex="0")


def _figures(*plots: Element) -> Element:
    """Plots beside each other, each under what its title says."""
    return element(
        "div",
        *(element("figure", element("figcaption", one[0].text or ""), one) for one in plots),
        class_="plots",
    )


def _round_ends(values: Sequence[float]) -> tuple[float, float]:
    """Where an axis that holds all of them begins and ends, in steps of two points."""
    low = math.floor(50 * min(values))
    return low / 50, max(math.ceil(50 * max(values)), low + 1) / 50


def _spans_said(spans: Sequence[Span]) -> str:
    return " ".join(
        f"{s.name}: {100 * s.value:.2f}, {100 * s.low:.2f} to {100 * s.high:.2f}." for s in spans
    )


def _percent(of: Spread) -> str:
    spread = "" if of.deviation is None else f" ± {100 * of.deviation:.2f}"
    return f"{100 * of.mean:.2f}{spread}"


def _plain(of: Spread) -> str:
    return f"{of.mean:.3f}" + ("" if of.deviation is None else f" ± {of.deviation:.3f}")
