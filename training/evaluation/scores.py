"""Scores of a bundle's predictions, and the calibration fitted to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from service.conversation.calibration import BiasCorrected, Calibration, Isotonic, Temperature
from service.conversation.prompts import Task
from service.decoding.bundle import (
    FILE,
    Bundle,
    BundleError,
    Calibrated,
    TrainedLabels,
    read_bundle,
    write_bundle,
)
from service.files import place_of_file
from service.outputs import rewritten
from training.evaluation.calibration import (
    FITS,
    best_fit,
    calibrated,
    cross_calibrated,
    fitted,
)
from training.evaluation.metrics import TITLES, Metrics, brier, measure
from training.evaluation.predictions import Predictions, write_predictions

Kind = Literal["best", "temperature", "bias-corrected", "isotonic"]


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a bundle in one label space.

    Attributes:
        served: with the bundle's own calibration.
        fitted: what calibrates these utterances best.
        mended: by calibrations of that kind, each utterance by one that was fitted on other
            dialogues.
        predicted: each label's share of the answers when calibrated by `fitted`, which live ones
            are compared with; by label name.
        shares_brier: the Brier score of a prediction that is always the labels' shares in training,
            which better ones are below; None if these are unknown.
    """

    label_space: str
    task: Task
    served: Metrics
    fitted: Calibration
    mended: Metrics
    predicted: dict[str, float]
    shares_brier: float | None

    def to_json(self) -> dict[str, Any]:
        """A line of figures: F1, accuracy and agreement of demonstrations in percent.

        Of biases and curves, only that there are some: `bundle.json` has them, and the labels'
        shares.
        """
        served, mended = self.served, self.mended
        figures = {
            "label_space": self.label_space,
            "utterances": served.utterances,
            **{name: _percent(getattr(served, name)) for name in TITLES},
            "brier": _rounded(served.brier),
            "calibration_error": _rounded(served.calibration_error),
            **{f"calibrated_{name}": _percent(getattr(mended, name)) for name in TITLES},
            "calibrated_brier": _rounded(mended.brier),
            "calibrated_error": _rounded(mended.calibration_error),
            "brier_of_shares": _rounded(self.shares_brier),
            "label_mass": _rounded(served.label_mass),
            "demonstration_agreement": _percent(served.demonstration_agreement),
            "label_order_flip_rate": _rounded(served.label_order_flip_rate),
            "invalid_rate": _rounded(served.invalid_rate),
            "free_decode_agreement": _rounded(served.free_decode_agreement),
        }
        match self.fitted:
            case Temperature(value):
                return figures | {"calibration": "temperature", "temperature": value}
            case BiasCorrected(Temperature(value)):
                return figures | {"calibration": "bias-corrected", "temperature": value}
            case Isotonic():
                return figures | {"calibration": "isotonic"}


def score(
    predictions: Predictions, trained: TrainedLabels, kind: Kind = "best", task: Task = "main"
) -> Scores:
    """The scores of a bundle's predictions.

    Args:
        predictions: without the bundle's calibration.
        trained: the label space as the bundle has it; calibrations are fitted to the labels' shares
            in training, where it knows them.
        kind: which calibration to fit; "best" see `best_fit`.
        task: what was predicted.
    """
    shares = None
    if trained.trained:
        shares = np.asarray([trained.trained[name] for name in predictions.labels])
    chosen = best_fit(predictions, shares) if kind == "best" else FITS[kind]
    fit = fitted(predictions, chosen, shares)
    return Scores(
        predictions.label_space,
        task,
        measure(calibrated(predictions, trained.calibration(task))),
        fit,
        measure(cross_calibrated(predictions, chosen, shares)),
        _shares(calibrated(predictions, fit)),
        None
        if shares is None
        else brier(np.broadcast_to(shares, predictions.probabilities.shape), predictions.gold),
    )


def keep(
    predictions: Sequence[Predictions],
    scores: Sequence[Scores],
    bundles: Sequence[Path],
    file: Path | None,
) -> None:
    """Write scores and calibrations into bundles or adapters, and then predictions to a file.

    The file says that all is done: an experiment that was stopped goes on by it.

    Args:
        predictions: not calibrated, so that calibrations can be fitted to the file and judged.

    Raises:
        BundleError: as `record`.
    """
    for folder in bundles:
        record(scores, folder)
    if file is not None:
        write_predictions(predictions, file)


def record(scores: Sequence[Scores], folder: Path) -> None:
    """Write calibrations and scores into the `bundle.json` of a bundle or an adapter.

    Raises:
        BundleError: no bundle, or one without a label space that was scored; nothing is written.
    """
    bundle = recordable(folder, [score.label_space for score in scores])
    spaces = dict(bundle.label_spaces)
    for score in scores:
        development = {
            "utterances": float(score.mended.utterances),
            **{name: _percent(getattr(score.mended, name)) for name in TITLES},
            "calibration_error": _rounded(score.mended.calibration_error),
        }
        labels = spaces[score.label_space].calibrated(score.fitted, score.task)
        update: dict[str, object] = {"development": development, "predicted": score.predicted}
        if score.task == "prediction":
            forecasts = labels.forecasts or Calibrated()
            update = {"forecasts": forecasts.model_copy(update={"development": development})}
        spaces[score.label_space] = labels.model_copy(update=update)
    write_bundle(bundle.model_copy(update={"label_spaces": spaces}), folder)
    rewritten(folder, FILE)


def recordable(folder: Path, label_spaces: Sequence[str]) -> Bundle:
    """The bundle or adapter in a folder, if scores in all of these label spaces may go there.

    Raises:
        BundleError: no bundle, or one that was not trained on a label space.
        OutputError: its description cannot be written.
    """
    bundle = read_bundle(folder)
    place_of_file(folder / FILE)
    for name in label_spaces:
        if name not in bundle.label_spaces:
            raise BundleError(f"{folder}: was not trained on {name}")
    return bundle


def _shares(predictions: Predictions) -> dict[str, float]:
    """Each label's share of the answers."""
    counts = np.bincount(
        predictions.probabilities.argmax(axis=1), minlength=len(predictions.labels)
    )
    shares = (counts / len(predictions.answers)).round(4).tolist()
    return dict(zip(predictions.labels, shares, strict=True))


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 4)
