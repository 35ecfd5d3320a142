"""Valence: the positive probability minus the negative one."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from service.conversation.derived import DerivedLabelSpace, load_derived_label_spaces
from service.conversation.labels import load_label_spaces
from service.conversation.prediction import Prediction
from service.conversation.valence import UNIT, Valences, valences_of

LABEL_SPACES = Path(__file__).parents[2] / "data" / "label_spaces"


@pytest.fixture(scope="module")
def derived() -> Mapping[str, DerivedLabelSpace]:
    return load_derived_label_spaces(LABEL_SPACES, load_label_spaces(LABEL_SPACES))


@pytest.fixture(scope="module")
def valences(derived: Mapping[str, DerivedLabelSpace]) -> Valences:
    return valences_of(derived)


def test_every_shipped_label_space_has_a_valence(valences: Valences) -> None:
    """The trained ones as well as their sentiments."""
    assert set(valences.weights) == {path.stem for path in LABEL_SPACES.glob("*.toml")}


def test_a_prediction_has_the_valence_of_its_sentiment(
    derived: Mapping[str, DerivedLabelSpace], valences: Valences
) -> None:
    """In the trained label space as in the derived one, to a millionth."""
    for space in derived.values():
        count = len(space.source.names)
        shares = tuple((n + 1) * 2 / (count * (count + 1)) for n in range(count))
        sentiment = space.summed(Prediction(space.source, shares, 1.0))
        in_derived = dict(zip(space.names, sentiment.probabilities, strict=True))
        in_source = dict(zip(space.source.names, shares, strict=True))

        valence = valences.of_prediction(space.source.name, in_source)

        expected = in_derived["positive"] - in_derived["negative"]
        assert valence == pytest.approx(UNIT * expected, abs=1)
        assert valences.of_prediction(space.name, in_derived) == valence


def test_a_label_is_certain(valences: Valences) -> None:
    """MELD's surprise is positive by 0.49 and negative by 0.51."""
    assert valences.of_label("meld", "joy") == UNIT
    assert valences.of_label("meld", "surprise") == -0.02 * UNIT
    assert valences.of_label("meld-sentiment", "negative") == -UNIT


def test_other_label_spaces_have_no_valence(valences: Valences) -> None:
    """A tenant's own, and labels that a label space has lost since an answer was stored."""
    assert valences.of_prediction("callers", {"upset": 1.0}) is None
    assert valences.of_label("callers", "upset") is None
    assert valences.of_prediction("meld", {"joy": 0.5, "bliss": 0.5}) is None
    assert valences.of_label("meld", "bliss") is None
