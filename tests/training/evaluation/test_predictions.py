"""Predictions kept in files."""

import json
from pathlib import Path

import pytest

from tests.training.evaluation.conftest import MELD
from training.evaluation.predictions import (
    Answer,
    Predictions,
    PredictionsError,
    Spoken,
    read_predictions,
    write_predictions,
)

MINE = Predictions("mine", ("up", "down"), (Answer("x", 0, 1, (0.25, 0.75)),))


def test_file_holds_what_was_said(tmp_path: Path) -> None:
    """By label space, whatever the order of the lines."""
    write_predictions([MELD, MINE], tmp_path / "said.jsonl")

    assert read_predictions(tmp_path / "said.jsonl") == {"meld": MELD, "mine": MINE}


def test_file_holds_what_the_model_said_when_it_was_asked_in_other_ways(tmp_path: Path) -> None:
    """Where it was: in two other orders of the labels, and free to say anything."""
    predictions = Predictions(
        "mine",
        ("up", "down"),
        (
            Answer(
                *("x", 0, 1, (0.25, 0.75)),
                reordered=((0.5, 0.5), (0.125, 0.875)),
                spoken=Spoken("downwards", None),
            ),
            Answer(
                *("x", 1, 0, (0.75, 0.25)),
                reordered=((0.5, 0.5), (0.625, 0.375)),
                spoken=Spoken("going up", "up"),
            ),
        ),
    )
    path = tmp_path / "said.jsonl"

    write_predictions([predictions, MELD], path)

    assert read_predictions(path) == {"mine": predictions, "meld": MELD}
    assert predictions.reordered.shape == (2, 2, 2)
    assert predictions.reordered[0].tolist() == [[0.5, 0.5], [0.125, 0.875]]
    assert MELD.reordered.shape == (3, 0, 2)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert ["spoken" in row or "reordered" in row for row in rows] == [True] * 2 + [False] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reordered": [[0.5, 0.5]]}, "reordered: another number of orders than above"),
        ({"spoken": {"text": "up", "label": "up"}}, "spoken: 'up' is not a label"),
        ({"spoken": "up"}, "TypeError"),
    ],
)
def test_broken_answer_in_another_way_is_named(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "said.jsonl"
    write_predictions([MELD], path)
    first, second, third = path.read_text().splitlines()
    path.write_text("\n".join([first, json.dumps(json.loads(second) | changes), third]))

    with pytest.raises(PredictionsError, match=f":2: not a prediction: .*{message}"):
        read_predictions(path)


def test_orders_with_too_few_labels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "said.jsonl"
    write_predictions([MINE], path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"reordered": [[1.0]]}))

    with pytest.raises(PredictionsError, match=r":1: .*reordered: not 2 probabilities"):
        read_predictions(path)


def test_utterance_without_an_id_has_none_in_the_file(tmp_path: Path) -> None:
    """As in the files that were written before there were ids."""
    write_predictions([MELD, MINE], tmp_path / "said.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]

    assert [row.get("utterance") for row in rows] == ["dia0_utt0", "dia0_utt3", None, None]
    assert ["utterance" in row for row in rows] == [True, True, False, False]


def test_predictions_are_arrays_over_utterances() -> None:
    """Dialogues by number."""
    assert MELD.gold.tolist() == [0, 1, 1]
    assert MELD.probabilities.tolist() == [[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]]
    assert MELD.dialogues.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":2: not JSON"),
        ("[]", ":2: not a prediction"),
        ('{"label_space": "meld"}', ":2: not a prediction: KeyError: 'probabilities'"),
        (
            '{"label_space": "meld", "dialogue": "a", "index": 0, "gold": "joy", '
            '"probabilities": {"joy": 1.0}, "label_mass": 1.0, "demonstrations": []}',
            ":2: not a prediction: ValueError: the labels of meld differ from those above",
        ),
    ],
)
def test_broken_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "said.jsonl"
    write_predictions([MELD], path)
    first = path.read_text().splitlines()[0]
    path.write_text(f"{first}\n{line}\n")

    with pytest.raises(PredictionsError) as refused:
        read_predictions(path)

    assert str(refused.value).startswith(f"{path}{message}")


def test_file_without_predictions_is_refused(tmp_path: Path) -> None:
    """An empty one, or none at all."""
    (tmp_path / "empty.jsonl").touch()

    with pytest.raises(PredictionsError, match="contains no prediction"):
        read_predictions(tmp_path / "empty.jsonl")
    with pytest.raises(PredictionsError, match="No such file"):
        read_predictions(tmp_path / "none.jsonl")
