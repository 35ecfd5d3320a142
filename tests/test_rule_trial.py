"""`instructerc rules` on files."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.rule_trial import answered_in
from tests.dialogues.webhooks.told import rule
from tests.rules.written import ENDPOINT, RULE, write

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _usual_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ERC_RULES__FILE", raising=False)


def scored(folder: Path, *dialogues: list[tuple[float, str | None]]) -> Path:
    """As `instructerc score` writes it: probabilities of anger, and people's labels."""
    file = folder / "scored.jsonl"
    lines: list[Any] = []
    for number, turns in enumerate(dialogues):
        utterances = []
        for anger, label in turns:
            probabilities = {"anger": anger, "neutral": 1 - anger}
            emotion = {"label_space": "meld", "probabilities": probabilities}
            utterance = {"speaker": "Ann", "text": "Hm.", "emotion": emotion}
            utterances.append(utterance if label is None else utterance | {"label": label})
        lines.append({"id": f"d{number}", "utterances": utterances})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_a_scored_file_is_tried_without_a_model(tmp_path: Path) -> None:
    file = write(tmp_path, RULE + ENDPOINT)
    answers = scored(tmp_path, [(0.1, "neutral"), (0.9, "anger")], [(0.9, "neutral")])

    done = RUNNER.invoke(app, ["rules", "try", str(file), str(answers)])

    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "angry fires in d0 at 1: anger 0.90, confirmed by people's labels",
        "angry fires in d1 at 0: anger 0.90, a false alarm",
        "angry: 2 firings in 2 dialogues; in the 2 with people's labels 1 false alarms "
        "(50.0 per 100 dialogues), and 0 of 1 missed",
    ]


def test_a_rule_that_does_not_read_the_answers_is_named(tmp_path: Path) -> None:
    unified = RULE.replace('"anger"', '"mad"').replace('"meld"', '"unified"')
    file = write(tmp_path, unified + ENDPOINT)

    done = RUNNER.invoke(app, ["rules", "try", str(file), str(scored(tmp_path, [(0.9, None)]))])

    assert done.exit_code == 0, done.output
    assert "0 firings in 1 dialogues; no dialogue has people's labels throughout" in done.output
    assert "angry looked at nothing: it reads unified" in done.output


def test_check_shows_each_rule_and_endpoint(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["rules", "check", str(write(tmp_path, RULE + ENDPOINT))])

    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "angry: anger (meld) with at least 0.6, in 1 of the last 1 turns of anybody; tells crm",
        "endpoint crm: told by 1 of 1 rules",
    ]


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, RULE)

    done = RUNNER.invoke(app, ["rules", "check", str(file)])

    assert done.exit_code == 2
    assert f"{file}: endpoints: Field required" in done.output


def test_dialogues_are_scored_in_a_label_space_that_all_rules_read() -> None:
    sentiment = rule(shares={"meld-sentiment": {}, "meld": {}})

    assert answered_in([rule(), sentiment]) == "meld"
    assert answered_in([sentiment]) == "meld"
    assert answered_in([rule(), rule(shares={"unified": {}})]) is None
