"""Measures how well probabilities are calibrated, and fits calibrations.

`training.evaluation.scores` stores a calibration in `bundle.json`, and
`service.conversation.calibration` applies it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from service.conversation.calibration import BiasCorrected, Calibration, Isotonic, Knot, Temperature
from service.decoding.bundle import MOST_KNOTS
from training.arrays import Floats, Ints
from training.evaluation.predictions import Predictions

# From log-probabilities, shape (utterances, labels), gold labels and weights, shape (utterances,).
Fit = Callable[[Floats, Ints, Floats], Calibration]

# Fine enough that a step changes no probability by a percent.
_TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4.0), 400))
_CONFIDENCE_BINS = 15
_PARTS = 5  # of cross-fitting
# Weight of the squared biases beside the mean log loss: a label that twenty of a thousand
# utterances have follows the data, one that two have hardly moves.
_SHRINKAGE = 0.003


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers that are about equally confident.

    Attributes:
        share: of all answers, how many these are.
        confidence, accuracy: their means.
    """

    share: float
    confidence: float
    accuracy: float


def fit_temperature(log_probabilities: Floats, gold: Ints, weights: Floats | None = None) -> float:
    """The temperature under which the gold labels are most likely.

    Args:
        log_probabilities: shape (utterances, labels), at temperature 1 up to a constant a row.
        gold: shape (utterances,), indexes of labels.
        weights: shape (utterances,), how much each utterance counts; None: all alike.
    """
    right = np.arange(len(gold)), gold
    counted = np.ones(len(gold)) if weights is None else weights
    losses = [
        -counted @ np.log(np.clip(Temperature(t)(log_probabilities)[right], 1e-12, 1))
        for t in _TEMPERATURES
    ]
    return round(float(_TEMPERATURES[int(np.argmin(losses))]), 4)


def fit_log_linear(
    parts: Sequence[Floats],
    gold: Ints,
    weights: Floats | None = None,
    powers: tuple[float | None, float | None] = (None, None),
) -> tuple[Floats, Floats]:
    """The powers of distributions, and the biases of labels, that make the gold labels most likely.

    A label's share is in proportion to the product of the powers and of its exponentiated bias.
    Biases are shrunk towards 0, or a label that no utterance has would become impossible.

    Args:
        parts: log-probabilities, each of shape (utterances, labels); the first begins at power 1.
        gold, weights: as of `fit_temperature`.
        powers: the lowest and the highest power.

    Returns:
        Powers, shape (parts,), and biases in nats, shape (labels,).
    """
    from scipy.optimize import minimize

    stacked = np.stack(parts)
    count, _, labels = stacked.shape
    truths = np.eye(labels)[gold]
    counted = np.ones(len(gold)) if weights is None else weights
    counted = (counted / counted.sum())[:, np.newaxis]

    def loss(values: Floats) -> tuple[float, Floats]:
        """Mean log loss with the penalty, and its gradient."""
        biases = values[count:]
        scores = np.tensordot(values[:count], stacked, 1) + biases
        scores = scores - scores.max(1, keepdims=True)
        log_shares = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        surplus = counted * (np.exp(log_shares) - truths)
        return (
            float(-(counted * truths * log_shares).sum() + _SHRINKAGE * (biases**2).sum()),
            np.concatenate(
                [(surplus * stacked).sum((1, 2)), surplus.sum(0) + 2 * _SHRINKAGE * biases]
            ),
        )

    start = np.zeros(count + labels)
    start[0] = 1.0
    bounds = [powers] * count + [(None, None)] * labels
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return best[:count], best[count:]


def fit_bias_corrected(
    log_probabilities: Floats, gold: Ints, weights: Floats | None = None
) -> BiasCorrected:
    """The temperature and the biases under which the gold labels are most likely.

    Arguments as of `fit_temperature`.
    """
    sharpest, flattest = 1 / _TEMPERATURES[0], 1 / _TEMPERATURES[-1]
    (power,), biases = fit_log_linear(
        [log_probabilities], gold, weights, powers=(flattest, sharpest)
    )
    return BiasCorrected(Temperature(round(float(1 / power), 4)), tuple(biases.round(4).tolist()))


def fit_isotonic(log_probabilities: Floats, gold: Ints, weights: Floats | None = None) -> Isotonic:
    """For each label, the curve that never falls and comes nearest to how often it is true.

    By least squares, each label against all others; arguments as of `fit_temperature`. Truths stay
    off 0 and 1 by the rule of succession: what was never seen is not impossible.
    """
    from sklearn.isotonic import IsotonicRegression

    shares = Temperature()(log_probabilities)
    least = 1 / (len(gold) + 2)
    curves = []
    for label, column in enumerate(shares.T):
        curve = IsotonicRegression(y_min=least, y_max=1 - least).fit(
            column, gold == label, sample_weight=weights
        )
        knots = list(zip(curve.X_thresholds_.tolist(), curve.y_thresholds_.tolist(), strict=True))
        curves.append(_thinned(knots))
    return Isotonic(tuple(curves))


# By the names that the command line has for them.
FITS: Mapping[str, Fit] = MappingProxyType(
    {
        "temperature": lambda *known: Temperature(fit_temperature(*known)),
        "bias-corrected": fit_bias_corrected,
        "isotonic": fit_isotonic,
    }
)


def label_weights(gold: Ints, shares: Floats | None) -> Floats:
    """How much each utterance counts, so that labels have other shares than among these.

    A development split is a small sample; where its labels' shares are not those of the utterances
    that trained the model, these know them better.

    Args:
        gold: shape (utterances,), indexes of labels.
        shares: shape (labels,), those that labels should have; None: the ones that they have.

    Returns:
        Shape (utterances,), 1 in the mean; all 1 where no label here has a share.
    """
    if shares is None or not shares[gold].any():
        return np.ones(len(gold))
    weights: Floats = shares[gold] / np.bincount(gold, minlength=len(shares))[gold]
    weights /= weights.mean()
    return weights


def fitted(predictions: Predictions, fit: Fit, shares: Floats | None = None) -> Calibration:
    """The calibration that fits predictions best.

    Args:
        shares: of labels, where they are to be others (`label_weights`).
    """
    gold = predictions.gold
    return fit(_logarithms(predictions.probabilities), gold, label_weights(gold, shares))


def calibrated(predictions: Predictions, calibration: Calibration) -> Predictions:
    """The same answers, calibrated as the service would."""
    return _with(predictions, calibration(_logarithms(_in_all_orders(predictions))))


def cross_calibrated(
    predictions: Predictions, fit: Fit, shares: Floats | None = None
) -> Predictions:
    """The same answers, each calibrated by what fits other dialogues (cross-fitting).

    The dialogues are dealt into five parts, and each part is calibrated by the other four: what is
    measured is what a calibration is worth on utterances that it was not fitted on. Where there is
    one dialogue only, it stays as it is. Arguments as of `fitted`.
    """
    scores, gold = _logarithms(predictions.probabilities), predictions.gold
    probabilities = _in_all_orders(predictions)
    asked = _logarithms(probabilities)
    parts = predictions.dialogues % _PARTS
    for part in np.unique(parts):
        judged = parts == part
        if not judged.all():
            known = gold[~judged]
            calibration = fit(scores[~judged], known, label_weights(known, shares))
            probabilities[judged] = calibration(asked[judged])
    return _with(predictions, probabilities)


def best_fit(predictions: Predictions, shares: Floats | None = None) -> Fit:
    """The kind of calibration that does best on other dialogues than it is fitted on.

    A temperature, unless another kind lowers the mean log loss by more than one standard error of
    the difference (the one-standard-error rule: Hastie, Tibshirani and Friedman 2009, section
    7.10.1). Arguments as of `fitted`.
    """
    gold = np.arange(len(predictions.gold)), predictions.gold
    weights = label_weights(predictions.gold, shares)

    def log_losses(fit: Fit) -> Floats:
        calibrated_elsewhere = cross_calibrated(predictions, fit, shares)
        losses: Floats = -weights * _logarithms(calibrated_elsewhere.probabilities)[gold]
        return losses

    simplest = log_losses(FITS["temperature"])
    gains = {name: simplest - log_losses(fit) for name, fit in FITS.items()}
    best = max(gains, key=lambda name: gains[name].mean())
    gain = gains[best]
    certain = gain.mean() > gain.std() / np.sqrt(len(gain))
    return FITS[best if certain else "temperature"]


def reliability(probabilities: Floats, gold: Ints) -> list[Bin]:
    """How often the most probable label is right, by how probable it is, the lowest first.

    In 15 bins of equal width, those without an answer left out (Guo et al. 2017, arXiv 1706.04599,
    section 2).
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == gold
    bins = np.minimum((confidence * _CONFIDENCE_BINS).astype(int), _CONFIDENCE_BINS - 1)
    return [
        Bin(
            float((bins == n).mean()),
            float(confidence[bins == n].mean()),
            float(right[bins == n].mean()),
        )
        for n in np.unique(bins)
    ]


def calibration_error(probabilities: Floats, gold: Ints) -> float:
    """Expected calibration error of the most probable label, 0 to 1, over those bins."""
    return sum(
        one.share * abs(one.accuracy - one.confidence) for one in reliability(probabilities, gold)
    )


def _thinned(knots: list[Knot]) -> tuple[Knot, ...]:
    """As many as a bundle may hold, evenly many left out."""
    kept = min(len(knots), MOST_KNOTS)
    return tuple(knots[n] for n in np.linspace(0, len(knots) - 1, kept).round().astype(int))


def _in_all_orders(predictions: Predictions) -> Floats:
    """Probabilities by the published order of the prompt's labels, and then by the others.

    Shape (utterances, 1 + others, labels).
    """
    published = predictions.probabilities[:, np.newaxis]
    return np.concatenate([published, predictions.reordered], axis=1)


def _logarithms(probabilities: Floats) -> Floats:
    logarithms: Floats = np.log(np.clip(probabilities, 1e-30, 1))
    return logarithms


def _with(predictions: Predictions, probabilities: Floats) -> Predictions:
    """The same answers with others of such probabilities."""
    return replace(
        predictions,
        answers=tuple(
            replace(answer, probabilities=tuple(row), reordered=tuple(map(tuple, others)))
            for answer, (row, *others) in zip(
                predictions.answers, probabilities.tolist(), strict=True
            )
        ),
    )
