"""A report of several models: what it measures, and the page and the file that keep it."""

import json
from collections.abc import Sequence
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from training.cli import app
from training.evaluation.bootstrap import NotTheSameUtterances, mean_difference
from training.evaluation.calibration import FITS, calibrated, cross_calibrated, fitted
from training.evaluation.free_decoding import with_spoken
from training.evaluation.label_orders import with_other_orders
from training.evaluation.metrics import measure, micro_f1, weighted_f1
from training.evaluation.predictions import Answer, Predictions, PredictionsError, write_predictions
from training.evaluation.seeds import Spread
from training.reporting.page import page
from training.reporting.report import AS_SAID, Run, read_runs, reported

LABELS = ("neutral", "joy", "anger")


def drawn(
    seed: int, *, utterances: int = 60, split: str = "test", space: str = "mine"
) -> Predictions:
    """Right more often than not; gold labels are the split's, whatever the seed."""
    gold = np.random.default_rng(len(split)).integers(0, 3, utterances)
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(utterances, 3))
    scores[range(utterances), gold] += 1.5
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    answers = (
        Answer(f"{split}/{n // 4}", n % 4, int(label), tuple(row.tolist()), 0.9, ("joy",))
        for n, (label, row) in enumerate(zip(gold, shares, strict=True))
    )
    return Predictions(space, LABELS, tuple(answers))


def write(path: Path, *predictions: Predictions) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_predictions(predictions, path)
    return path


@pytest.fixture
def runs() -> list[Run]:
    """Two seeds of ours, and theirs."""
    return [
        Run("ours", "1", {"mine": drawn(1)}),
        Run("ours", "2", {"mine": drawn(2)}),
        Run("theirs", None, {"mine": drawn(3)}),
    ]


def test_seeds_of_a_model_are_one_model(runs: list[Run]) -> None:
    """Its mean and standard deviation, beside every measure of each run."""
    (report,) = reported(runs)

    ours, theirs = report.models["ours"], report.models["theirs"]
    each = [measure(drawn(seed)) for seed in (1, 2)]
    f1 = [m.weighted_f1 for m in each]
    assert (report.label_space, report.labels, report.utterances) == ("mine", LABELS, 60)
    assert ours.runs == {"1": each[0], "2": each[1]}
    assert ours.measures["weighted_f1"].mean == pytest.approx(np.mean(f1))
    assert ours.measures["weighted_f1"].deviation == pytest.approx(np.std(f1, ddof=1))
    assert ours.labels["joy"].recall.mean == pytest.approx(
        np.mean([m.labels["joy"].recall for m in each])
    )
    assert ours.labels["joy"].support == each[0].labels["joy"].support
    assert np.array(ours.confusion) == pytest.approx(np.mean([m.confusion for m in each], axis=0))
    assert ours.interval.value == pytest.approx(np.mean(f1))
    assert theirs.runs == {"": measure(drawn(3))}
    assert theirs.measures["weighted_f1"].deviation is None


def test_first_model_is_held_against_each_other_one(runs: list[Run]) -> None:
    """By all of its seeds, on the same draws."""
    (report,) = reported(runs)

    assert report.first == "ours"
    assert report.leads == {
        "theirs": mean_difference([drawn(1), drawn(2)], [drawn(3)], weighted_f1)
    }


@pytest.mark.parametrize("kind", FITS)
def test_without_other_utterances_calibrations_are_cross_fitted(kind: str, runs: list[Run]) -> None:
    """What is measured is of dialogues that they were not fitted on."""
    (report,) = reported(runs)

    model = report.models["theirs"]
    expected = measure(cross_calibrated(drawn(3), FITS[kind]))
    assert model.fitted_on is None
    assert model.calibrations[kind].calibration_error.mean == expected.calibration_error
    assert model.calibrations[kind].brier.mean == expected.brier
    assert model.calibrations[AS_SAID].brier.mean == measure(drawn(3)).brier
    assert sum(one.share for one in model.calibrations[kind].reliability) == pytest.approx(1)


@pytest.mark.parametrize("kind", FITS)
def test_calibrations_are_fitted_on_what_is_given(kind: str, tmp_path: Path) -> None:
    """To each run its own, by the file's name; a model without any is cross-fitted."""
    files = [
        write(tmp_path / f"{name}.jsonl", drawn(n))
        for n, name in ((1, "a@1"), (2, "a@2"), (3, "b"))
    ]
    fit = [
        write(tmp_path / "dev" / f"a@{n}.jsonl", drawn(n + 10, split="dev", utterances=100))
        for n in (2, 1)
    ]

    (report,) = reported(read_runs(files, fit))

    expected = [
        measure(
            calibrated(drawn(n), fitted(drawn(n + 10, split="dev", utterances=100), FITS[kind]))
        ).calibration_error
        for n in (1, 2)
    ]
    assert report.models["a"].fitted_on == 100
    assert report.models["a"].calibrations[kind].calibration_error.mean == pytest.approx(
        np.mean(expected)
    )
    assert report.models["b"].fitted_on is None


def test_label_spaces_are_reported_side_by_side(tmp_path: Path) -> None:
    """In the order of the files, each with the models that answered in it."""
    ours = write(tmp_path / "ours.jsonl", drawn(1), drawn(1, space="other"))
    theirs = write(tmp_path / "theirs.jsonl", drawn(2, space="other"), drawn(2, space="third"))

    reports = reported(read_runs([ours, theirs]))

    assert [(space.label_space, list(space.models), space.first) for space in reports] == [
        ("mine", ["ours"], "ours"),
        ("other", ["ours", "theirs"], "ours"),
        ("third", ["theirs"], "theirs"),
    ]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    """Seeds too."""
    paths = [
        write(tmp_path / folder / f"said@{seed}.jsonl", drawn(1))
        for folder in ("one", "two")
        for seed in (1, 2)
    ]

    runs = read_runs(paths)

    assert [(run.model, run.seed) for run in runs] == [
        (str(tmp_path / folder / "said"), seed) for folder in ("one", "two") for seed in ("1", "2")
    ]


@pytest.mark.parametrize(
    ("name", "model", "seed"),
    [("a", "a", None), ("a@b@7", "a@b", "7"), ("@7", "@7", None), ("a@", "a", None)],
)
def test_seed_stands_behind_the_last_at_sign(
    name: str, model: str, seed: str | None, tmp_path: Path
) -> None:
    (run,) = read_runs([write(tmp_path / f"{name}.jsonl", drawn(1))])

    assert (run.model, run.seed) == (model, seed)


def test_runs_of_an_experiment_are_read_where_it_left_them(tmp_path: Path) -> None:
    """Called by their folders, each with what its development split would fit."""
    files = [write(tmp_path / f"ours@{n}" / "test.jsonl", drawn(n)) for n in (1, 2)]
    fit = [
        write(tmp_path / f"ours@{n}" / "development.jsonl", drawn(n, split="dev", utterances=100))
        for n in (1, 2)
    ]

    runs = read_runs(files, fit)

    assert [(run.model, run.seed) for run in runs] == [("ours", "1"), ("ours", "2")]
    assert reported(runs)[0].models["ours"].fitted_on == 100


def test_splits_of_one_run_are_not_taken_for_each_other(tmp_path: Path) -> None:
    """Nor for what fits which of two experiments, nor one file for two."""
    paths = [
        write(tmp_path / "ours@1" / f"{split}.jsonl", drawn(1, split=split, utterances=size))
        for split, size in (("test", 60), ("development", 100))
    ]
    (tmp_path / "other").mkdir()
    others = write(tmp_path / "other" / "ours@1" / "test.jsonl", drawn(1))

    with pytest.raises(NotTheSameUtterances):
        reported(read_runs(paths))
    with pytest.raises(ValueError, match="two files of predictions have the same name"):
        read_runs([paths[0], others], [paths[1]])
    with pytest.raises(ValueError, match=r"ours@1/test\.jsonl: is given twice"):
        read_runs([paths[0], paths[0]])


def test_at_sign_of_a_folder_is_no_seed(tmp_path: Path) -> None:
    """But where an experiment has left the file."""
    paths = [write(tmp_path / f"me@{n}" / "said.jsonl", drawn(n)) for n in (1, 2)]

    runs = read_runs(paths)

    assert [(run.model, run.seed) for run in runs] == [
        (str(path.with_suffix("")), None) for path in paths
    ]


def test_calibrations_that_would_not_be_honest_are_refused(tmp_path: Path) -> None:
    """Fitted on what they are judged by, or on nothing, or on who knows what."""
    file = write(tmp_path / "ours.jsonl", drawn(1))
    again = write(tmp_path / "same" / "ours.jsonl", drawn(2))
    stray = write(tmp_path / "theirs.jsonl", drawn(1, split="dev"))
    lacking = write(tmp_path / "lacking" / "ours.jsonl", drawn(1, split="dev", space="other"))
    seeds = [write(tmp_path / f"ours@{n}.jsonl", drawn(n)) for n in (1, 2)]
    half = write(tmp_path / "half" / "ours@1.jsonl", drawn(1, split="dev"))

    for paths, fit, reason in (
        (
            [file],
            again,
            "same/ours.jsonl: contains utterances that the calibration would be judged on",
        ),
        ([file], stray, "theirs.jsonl: no file of predictions is called theirs"),
        ([file], lacking, "lacking/ours.jsonl: contains no predictions in mine"),
        ([file, again], lacking, "two files of predictions have the same name"),
        (seeds, half, "ours: only some of its runs have predictions to fit"),
    ):
        with pytest.raises(ValueError, match=reason):
            reported(read_runs(paths, [fit]))


def test_models_of_other_utterances_are_refused(runs: list[Run]) -> None:
    fewer = Run("fewer", None, {"mine": drawn(1, utterances=40)})

    with pytest.raises(NotTheSameUtterances, match="60 utterances and 40"):
        reported([*runs, fewer])


class Outline(HTMLParser):
    """Texts by the element they are in; every element must end where it may, in HTML and XML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.ids: list[str] = []
        self.rows: list[list[str]] = []
        ElementTree.fromstring(html)
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for key, value in attrs if key == "id"]
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "th":
            assert dict(attrs)["scope"] in ("row", "col")

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """HTML knows elements that end where they begin in SVG alone, and some that never end."""
        assert tag == "meta" or "svg" in self.open

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)
        if "tr" in self.open:
            self.rows[-1].append(data)


def test_page_has_every_table_and_plot(runs: list[Run]) -> None:
    """Tables with captions and heads, and five kinds of plots."""
    reports = reported(runs)

    outline = Outline(page(reports))

    assert outline.texts["h2"] == ["mine"]
    assert outline.texts["caption"] == [
        *("Scores", "Paired leads", "Before and after calibration"),
        *("ours, by label", "theirs, by label"),
    ]
    assert outline.texts["figcaption"] == [
        "Weighted F1 in mine, with 95% intervals",
        "Lead of ours over each other model, with 95% intervals",
        "Accuracy in mine when only the surest are answered",
        "Confusions of ours, mean of its runs",
        "Reliability of ours",
        "Confusions of theirs",
        "Reliability of theirs",
    ]
    assert len(outline.ids) == len(set(outline.ids))
    ours = reports[0].models["ours"]
    f1, span = ours.measures["weighted_f1"], ours.interval
    assert outline.rows[1][:4] == [
        *("ours", "2", f"{100 * f1.mean:.2f} ± {100 * (f1.deviation or 0):.2f}"),
        f"{100 * span.low:.1f} to {100 * span.high:.1f}",
    ]
    assert all(len(row) == len(outline.rows[0]) for row in outline.rows[1:3])


def test_dailydialog_is_compared_by_micro_f1() -> None:
    """In the first column, the intervals, the leads and the titles; the file says so."""
    runs = [Run(f"m{n}", None, {"dailydialog": drawn(n, space="dailydialog")}) for n in range(2)]

    (report,) = reported(runs)

    outline = Outline(page([report]))
    value = report.models["m0"].measures["micro_f1"].mean
    assert report.models["m0"].interval.value == pytest.approx(value)
    assert report.leads["m1"] == mean_difference(
        [drawn(0)], [drawn(1)], lambda matrix: micro_f1(matrix, np.array([0]))
    )
    assert outline.rows[0][2] == "micro F1 without neutral"
    assert outline.rows[1][2] == f"{100 * value:.2f}"
    assert "Micro F1 without neutral in dailydialog, with 95% intervals" in str(outline.texts)
    model = report.to_json()["models"]["m0"]
    assert (report.compared_by, model["micro_f1_interval"]["value"]) == ("micro_f1", value)
    assert "interval" not in model


def test_what_was_asked_in_other_ways_has_a_table(runs: list[Run]) -> None:
    """Of the models and the runs that were asked so; without any, there is none."""
    ours = drawn(1, utterances=12)
    other = drawn(2, utterances=12)
    flips = (other.probabilities.argmax(1) != ours.probabilities.argmax(1)).mean()
    texts = ["happy", "happy", "hm", "angry"] * 3
    spoken = with_spoken(ours, texts, {"joy": "happy", "anger": "angry"})
    reordered = with_other_orders(spoken, [ours, other])
    theirs = drawn(3, utterances=12)

    (report,) = reported(
        [
            Run("ours", "1", {"mine": reordered}),
            Run("ours", "2", {"mine": theirs}),
            Run("theirs", None, {"mine": theirs}),
        ]
    )

    model = report.models["ours"]
    agreement = measure(reordered).free_decode_agreement
    assert 0 < flips < 1
    assert model.label_order_flip_rate == Spread(flips / 2, None)
    assert model.invalid_rate == Spread(0.25, None)
    assert model.free_decode_agreement == Spread(agreement or 0.0, None)
    rates = [f"{100 * rate:.2f}" for rate in (flips / 2, 0.25, agreement or 0.0)]
    outline = Outline(page([report]))
    assert ["ours", *rates] in outline.rows
    assert ["theirs", *["not asked"] * 3] in outline.rows
    assert report.to_json()["models"]["ours"]["invalid_rate"]["mean"] == 0.25
    assert "Asked in other ways" not in page(reported(runs))


def test_page_says_what_calibrations_were_fitted_on(tmp_path: Path) -> None:
    """Of each model."""
    files = [write(tmp_path / f"{name}.jsonl", drawn(1)) for name in ("a", "b")]
    fit = write(tmp_path / "dev" / "a.jsonl", drawn(2, split="dev", utterances=40))

    cells = Outline(page(reported(read_runs(files, [fit])))).rows

    assert ["a", "40 utterances given for it"] in [row[:2] for row in cells]
    assert ["b", "other dialogues of the same (cross-fitted)"] in [row[:2] for row in cells]


def test_page_needs_nothing_else(runs: list[Run]) -> None:
    """No script, no address but SVG's name, and a policy that forbids both."""
    html = page(reported(runs))

    assert html.count("http") - html.count("http-equiv") == html.count("http://www.w3.org/2000/svg")
    assert "<script" not in html
    assert "<link" not in html
    assert "default-src 'none'" in html
    assert files("training.reporting").joinpath("report.css").read_text() in html


def test_names_are_text_whatever_they_look_like() -> None:
    """Of models, label spaces and labels."""
    evil = '<script>alert("x")</script>&amp;'
    predictions = drawn(1, space=evil)
    predictions = Predictions(evil, (evil, "b", "c"), predictions.answers)

    html = page(reported([Run(evil, None, {evil: predictions})]))

    outline = Outline(html)
    assert "<script" not in html
    assert outline.texts["h2"] == outline.texts["h3"][2:] == [evil]


def test_single_answer_is_enough() -> None:
    """Nothing to draw from, to spread over or to fit on."""
    one = drawn(1, utterances=1)

    (report,) = reported([Run("ours", None, {"mine": one})])

    assert report.utterances == 1
    Outline(page([report]))


def test_command_writes_page_and_measures(tmp_path: Path) -> None:
    """Beside each other."""
    paths = [write(tmp_path / f"{name}.jsonl", drawn(n)) for n, name in enumerate(("a", "b"))]
    fit = write(tmp_path / "dev" / "a.jsonl", drawn(2, split="dev"))
    out = tmp_path / "report.html"

    result = CliRunner().invoke(
        app, ["report", *map(str, paths), "--out", str(out), "--fit", str(fit)]
    )

    assert result.exit_code == 0, result.output
    spaces = reported(read_runs(paths, [fit]))
    assert out.read_text() == page(spaces)
    measures = json.loads((tmp_path / "report.json").read_text())["mine"]
    assert measures["models"]["a"]["runs"][""]["confusion"] == measure(drawn(0)).confusion
    assert measures["models"]["a"]["fitted_on"] == 60
    assert measures["leads"]["b"]["value"] == spaces[0].leads["b"].value
    value = measures["models"]["a"]["weighted_f1_interval"]["value"]
    assert value == spaces[0].models["a"].interval.value
    assert measures["models"]["b"]["calibrations"]["isotonic"]["brier"]["deviation"] is None


def test_command_says_in_a_line_why_it_refuses(tmp_path: Path) -> None:
    """And writes nothing."""
    path = write(tmp_path / "a.jsonl", drawn(1))

    for arguments, reason in (
        ([str(path), "--out", str(tmp_path / "report.json")], "give the page the suffix .html"),
        ([str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "report.html")], "No such file"),
    ):
        result = CliRunner().invoke(app, ["report", *arguments])
        assert result.exit_code == 2
        assert reason in result.stderr
        assert result.stderr.count("\n") == 1
    assert {one.name for one in tmp_path.iterdir()} == {"a.jsonl"}


def test_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")

    with pytest.raises(PredictionsError, match=r"a\.jsonl:1"):
        read_runs([tmp_path / "a.jsonl"])
