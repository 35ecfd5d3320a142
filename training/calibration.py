"""How far probabilities can be believed, and the temperature that mends them."""

import numpy as np

from training.predictions import Floats, Ints

# Fine enough that a step changes no probability by a percent.
_TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4.0), 400))
_CONFIDENCE_BINS = 15


def fit_temperature(log_probabilities: Floats, gold: Ints) -> float:
    """The temperature under which the gold labels are most likely.

    Args:
        log_probabilities: shape (utterances, labels), at temperature 1 up to a constant a row.
        gold: shape (utterances,), indexes of labels.
    """
    losses = [
        -np.log(np.clip(softened(log_probabilities, t)[range(len(gold)), gold], 1e-12, 1)).mean()
        for t in _TEMPERATURES
    ]
    return round(float(_TEMPERATURES[int(np.argmin(losses))]), 4)


def calibration_error(probabilities: Floats, gold: Ints) -> float:
    """Expected calibration error of the most probable label, 0 to 1.

    Over 15 bins of equal width (Guo et al. 2017, arXiv 1706.04599, section 2).
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == gold
    bins = np.minimum((confidence * _CONFIDENCE_BINS).astype(int), _CONFIDENCE_BINS - 1)
    gaps = [
        abs(right[bins == n].mean() - confidence[bins == n].mean()) * (bins == n).mean()
        for n in np.unique(bins)
    ]
    return float(sum(gaps))


def softened(log_probabilities: Floats, temperature: float) -> Floats:
    """The distributions at a temperature, shape (utterances, labels)."""
    scaled = log_probabilities / temperature
    weights = np.exp(scaled - scaled.max(1, keepdims=True))
    found: Floats = weights / weights.sum(1, keepdims=True)
    return found
