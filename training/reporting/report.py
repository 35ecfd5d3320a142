"""Everything that is measured of models, by label space; several seeds of a model together.

All is of what the models said, which no calibration has changed, but where it says otherwise.
Calibrations are never judged by the utterances that they were fitted on: they are fitted on other
predictions of the same model, as of a development split, or else each dialogue is calibrated by
what fits others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluation.bootstrap import Difference, Interval, mean_difference, mean_interval
from training.evaluation.calibration import (
    FITS,
    Bin,
    calibrated,
    cross_calibrated,
    fitted,
    reliability,
)
from training.evaluation.metrics import (
    TITLES,
    LabelMetrics,
    Metrics,
    compared_by,
    measure,
    own_measure,
)
from training.evaluation.predictions import Predictions, name_of, names_of, read_predictions
from training.evaluation.seeds import Spread, model_and_seed, spread

# The measures of `Metrics` that are one number.
MEASURES = (*TITLES, "brier", "calibration_error", "label_mass")
AS_SAID = "as said"


@dataclass(frozen=True, slots=True)
class Run:
    """One file of predictions.

    Attributes:
        model, seed: the file's name before and behind its last @; without one, no seed.
        said, other: by label space; `other` are predictions to fit calibrations on, if there are.
    """

    model: str
    seed: str | None
    said: Mapping[str, Predictions]
    other: Mapping[str, Predictions] | None = None


@dataclass(frozen=True, slots=True)
class LabelReport:
    """The measures of one label over runs."""

    precision: Spread
    recall: Spread
    f1: Spread
    support: int


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """Answers as said, or by one kind of calibration; `reliability` is of all runs together."""

    weighted_f1: Spread
    micro_f1: Spread
    brier: Spread
    calibration_error: Spread
    reliability: list[Bin]


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model in one label space; shares are from 0 to 1.

    Attributes:
        runs: every measure of each run, by seed, or by "" where it has none.
        interval: of the measure by which models are compared in the label space.
        measures: by the names in `MEASURES`.
        demonstration_agreement, label_order_flip_rate, invalid_rate, free_decode_agreement: of the
            runs that it was measured of; None where it was of none.
        confusion: means over the runs, gold labels down, said labels across.
        fitted_on: how many other utterances calibrations were fitted on; None: cross-fitted.
        calibrations: `AS_SAID`, then by the names in `training.evaluation.calibration.FITS`.
    """

    runs: dict[str, Metrics]
    interval: Interval
    measures: dict[str, Spread]
    demonstration_agreement: Spread | None
    label_order_flip_rate: Spread | None
    invalid_rate: Spread | None
    free_decode_agreement: Spread | None
    labels: dict[str, LabelReport]
    confusion: list[list[float]]
    accuracy_at_coverage: dict[float, float]
    fitted_on: int | None
    calibrations: dict[str, CalibrationReport]


@dataclass(frozen=True, slots=True)
class SpaceReport:
    """Models in one label space, and the first one's lead over each other one.

    Attributes:
        compared_by: the name in `Metrics` of the measure that intervals and leads are of.
    """

    label_space: str
    labels: tuple[str, ...]
    utterances: int
    compared_by: str
    models: dict[str, ModelReport]
    first: str
    leads: dict[str, Difference]

    def to_json(self) -> dict[str, Any]:
        """With the name of the measure in that of its interval."""
        document = asdict(self)
        for model in document["models"].values():
            model[f"{self.compared_by}_interval"] = model.pop("interval")
        return document


def read_runs(paths: Sequence[Path], fit: Sequence[Path] = ()) -> list[Run]:
    """Read files of predictions.

    Args:
        fit: predictions of other utterances, each file named as the one that it belongs to.

    Raises:
        PredictionsError: a file cannot be used.
        ValueError: two files have one name and would have to be told apart by `fit`, or a file of
            `fit` belongs to none, to the same utterances, or lacks a label space.
    """
    names = names_of(paths)
    short = names == [name_of(path) for path in paths]
    if fit and not (short and len({name_of(path) for path in fit}) == len(fit)):
        raise ValueError(
            "two files of predictions have the same name: it is unclear which fits which"
        )
    runs = {}
    for path, name in zip(paths, names, strict=True):
        model, seed = model_and_seed(name_of(path))
        shown = model if short else str(path.with_name(model))
        runs[name] = Run(shown, seed, read_predictions(path))
    for path in fit:
        name = name_of(path)
        if name not in runs:
            raise ValueError(f"{path}: no file of predictions is called {name}")
        runs[name] = _with_other(runs[name], read_predictions(path), path)
    return list(runs.values())


def reported(runs: Sequence[Run]) -> list[SpaceReport]:
    """Measure every model in every label space, in the order of the files.

    Raises:
        NotTheSameUtterances: models were asked about different utterances.
        ValueError: only some of the runs of a model have others to fit calibrations on.
    """
    reports = []
    for space in dict.fromkeys(space for run in runs for space in run.said):
        models: dict[str, list[Run]] = {}
        for run in runs:
            if space in run.said:
                models.setdefault(run.model, []).append(run)
        said = {name: [run.said[space] for run in model] for name, model in models.items()}
        (first, ours), *others = said.items()
        own = own_measure(space, ours[0].labels)
        reports.append(
            SpaceReport(
                label_space=space,
                labels=ours[0].labels,
                utterances=len(ours[0].answers),
                compared_by=compared_by(space),
                models={name: _model(space, model) for name, model in models.items()},
                first=first,
                leads={name: mean_difference(ours, theirs, own) for name, theirs in others},
            )
        )
    return reports


def _with_other(run: Run, other: Mapping[str, Predictions], path: Path) -> Run:
    for space, said in run.said.items():
        if space not in other:
            raise ValueError(f"{path}: contains no predictions in {space}")
        one, two = (
            [(a.dialogue, a.index, a.gold) for a in p.answers] for p in (said, other[space])
        )
        if one == two:
            raise ValueError(f"{path}: contains utterances that the calibration would be judged on")
    return replace(run, other=other)


def _model(space: str, runs: Sequence[Run]) -> ModelReport:
    said = [run.said[space] for run in runs]
    others = [run.other[space] for run in runs if run.other is not None]
    if others and len(others) < len(runs):
        raise ValueError(f"{runs[0].model}: only some of its runs have predictions to fit")
    metrics = [measure(each) for each in said]
    return ModelReport(
        runs={run.seed or "": m for run, m in zip(runs, metrics, strict=True)},
        interval=mean_interval(said, own_measure(space, said[0].labels)),
        measures={name: spread([getattr(m, name) for m in metrics]) for name in MEASURES},
        demonstration_agreement=_of_some([m.demonstration_agreement for m in metrics]),
        label_order_flip_rate=_of_some([m.label_order_flip_rate for m in metrics]),
        invalid_rate=_of_some([m.invalid_rate for m in metrics]),
        free_decode_agreement=_of_some([m.free_decode_agreement for m in metrics]),
        labels={label: _label([m.labels[label] for m in metrics]) for label in said[0].labels},
        confusion=np.mean([m.confusion for m in metrics], axis=0).tolist(),
        accuracy_at_coverage={
            share: float(np.mean([m.accuracy_at_coverage[share] for m in metrics]))
            for share in metrics[0].accuracy_at_coverage
        },
        fitted_on=len(others[0].answers) if others else None,
        calibrations={AS_SAID: _calibration(said)}
        | {kind: _calibration(_mended(said, others, kind)) for kind in FITS},
    )


def _label(runs: Sequence[LabelMetrics]) -> LabelReport:
    return LabelReport(
        precision=spread([run.precision for run in runs]),
        recall=spread([run.recall for run in runs]),
        f1=spread([run.f1 for run in runs]),
        support=runs[0].support,
    )


def _mended(
    said: Sequence[Predictions], others: Sequence[Predictions], kind: str
) -> list[Predictions]:
    fit = FITS[kind]
    if not others:
        return [cross_calibrated(each, fit) for each in said]
    return [calibrated(each, fitted(other, fit)) for each, other in zip(said, others, strict=True)]


def _calibration(said: Sequence[Predictions]) -> CalibrationReport:
    metrics = [measure(each) for each in said]
    return CalibrationReport(
        weighted_f1=spread([m.weighted_f1 for m in metrics]),
        micro_f1=spread([m.micro_f1 for m in metrics]),
        brier=spread([m.brier for m in metrics]),
        calibration_error=spread([m.calibration_error for m in metrics]),
        reliability=reliability(
            np.concatenate([each.probabilities for each in said]),
            np.concatenate([each.gold for each in said]),
        ),
    )


def _of_some(values: Sequence[float | None]) -> Spread | None:
    there = [value for value in values if value is not None]
    return spread(there) if there else None
