"""What votes bring a model is told apart from what biases and powers bring it."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.bench.pooled import pooled, typer_app
from training.arrays import Floats, Ints
from training.evaluation.predictions import Answer, Predictions, write_predictions

LABELS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")


def predictions(rows: Floats, gold: Ints) -> Predictions:
    """In dialogues of ten utterances."""
    shares = np.exp(rows) / np.exp(rows).sum(1, keepdims=True)
    return Predictions(
        "meld",
        LABELS,
        tuple(
            Answer(f"d{n // 10}", n % 10, int(label), tuple(row))
            for n, (label, row) in enumerate(zip(gold, shares.tolist(), strict=True))
        ),
    )


@pytest.fixture
def gold() -> Ints:
    return np.random.default_rng(0).integers(0, 7, 500)


def evidence(gold: Ints, seed: int, strength: float) -> Predictions:
    """Noise, and so much for the true label."""
    noise = np.random.default_rng(seed).normal(size=(len(gold), 7))
    return predictions(noise + strength * np.eye(7)[gold], gold)


def accuracy(of: Predictions) -> float:
    return float((of.probabilities.argmax(1) == of.gold).mean())


def test_votes_that_know_something_else_raise_the_accuracy(gold: Ints) -> None:
    model = evidence(gold, 1, 1.5)

    assert accuracy(pooled(model, evidence(gold, 2, 1.5))) > accuracy(pooled(model, None)) + 0.1


def test_votes_that_know_nothing_gain_no_power(gold: Ints) -> None:
    model = evidence(gold, 1, 1.5)

    difference = accuracy(pooled(model, evidence(gold, 2, 0.0))) - accuracy(pooled(model, None))

    assert abs(difference) < 0.02


def test_votes_are_matched_by_utterance(gold: Ints) -> None:
    """Whatever the order in which they stand in the file."""
    model, votes = evidence(gold, 1, 1.5), evidence(gold, 2, 1.5)
    turned = Predictions("meld", LABELS, votes.answers[::-1])

    assert pooled(model, turned).answers == pooled(model, votes).answers


def test_command_prints_the_lead_of_each_kind_of_votes(gold: Ints, tmp_path: Path) -> None:
    """Seeds of one kind together."""
    write_predictions([evidence(gold, 1, 1.0)], tmp_path / "model.jsonl")
    for seed in (1, 2):
        write_predictions([evidence(gold, 2 + seed, 2.0)], tmp_path / f"knowing@{seed}.jsonl")
    names = ("model.jsonl", "knowing@1.jsonl", "knowing@2.jsonl")

    result = CliRunner().invoke(
        typer_app, [*(str(tmp_path / name) for name in names), "--out", str(tmp_path / "out.json")]
    )

    assert result.exit_code == 0, result.output
    (figures,) = json.loads((tmp_path / "out.json").read_text())
    assert (figures["votes"], figures["seeds"]) == ("knowing", 2)
    assert 0 < figures["lead"]["low"] < figures["lead"]["value"] < figures["lead"]["high"]
    assert figures["log_loss"] < figures["log_loss_alone"]
    assert "| meld | knowing | 2 | +" in result.output
