"""What is wrong with recipes and corpora is said before anything is loaded or trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from tests.training.commands.test_what_is_there import refused, write_dialogues
from tests.training.conftest import HELD_OUT_TALKS, OTHER_TALKS, RECIPE, TALKS
from training.cli import app
from training.finetuning import preflight

Talks = dict[str, list[tuple[str, str, str]]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The corpora of the small recipe."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, talks in (("talks", TALKS), ("others", OTHER_TALKS), ("held_out", HELD_OUT_TALKS)):
        write_dialogues(folder / f"{name}.jsonl", talks)
    return folder


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the encoder nor a base's tokenizer."""

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("service.demonstrations.encoder.load_encoder", loaded)
    monkeypatch.setattr(preflight, "prompt_settings", loaded)


@pytest.fixture
def command(data: Path, tiny_base: Path, tmp_path: Path) -> Callable[..., Result]:
    """Runs `train`, or another command, with a recipe that differs from the small one."""

    def call(name: str = "train", *more: str, **changes: Any) -> Result:
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(RECIPE | changes))
        words = [name, path, "--data", data, "--base", tiny_base, "--out", tmp_path / "out", *more]
        result = CliRunner().invoke(app, [*map(str, words)])
        assert not (tmp_path / "out").exists()
        return result

    return call


def best(**changes: Any) -> list[dict[str, Any]]:
    """The stages, of which the last keeps its best epoch."""
    first, last = RECIPE["stages"]
    return [first, last | {"keep": "best"} | changes]


UNLABELLED = {"id": "p", "utterances": [{"speaker": "Gus", "text": "You forgot my birthday."}] * 2}


@pytest.mark.parametrize("name", ["train", "run"])
@pytest.mark.parametrize("folders", [False, True], ids=["gone", "dangling"])
def test_missing_corpora_are_all_named_at_once(
    name: str, folders: bool, command: Callable[..., Result], data: Path
) -> None:
    """Whatever else is there; so is a link that leads nowhere."""
    for missing in ("others", "held_out"):
        (data / f"{missing}.jsonl").unlink()
        if folders:
            (data / f"{missing}.jsonl").symlink_to("nowhere")

    line = refused(command(name))

    assert (
        f"{data / 'others.jsonl'}: No such file or directory; {data / 'held_out.jsonl'}: No" in line
    )


def test_missing_test_split_is_named_where_it_is_to_be_scored(
    command: Callable[..., Result], data: Path
) -> None:
    """It would be found missing when all is trained."""
    test = [{"format": "jsonl", "path": "test.jsonl", "label_space": "meld"}]

    assert "test.jsonl: No such file" in refused(command("run", "--test", test=test))

    (data / "test.jsonl").write_text(json.dumps(UNLABELLED) + "\n")
    line = refused(command("run", "--test", test=test))
    assert "test.jsonl: no utterance has a label" in line


def test_missing_corpora_of_other_commands_are_all_named(tmp_path: Path) -> None:
    """With what else they read."""
    a, b, c = (tmp_path / name for name in ("a.csv", "b.jsonl", "c.jsonl"))
    for words in (
        ["baselines", "--train", f"meld:{a}", "--corpus", f"jsonl/meld:{b}", "--out", tmp_path],
        ["data", "describe", f"meld:{a}", b, "--out", tmp_path / "out"],
        ["data", "demonstrations", f"meld:{a}", "--held-out", f"meld:{b}", "--out", c],
        ["evaluate", tmp_path, "--corpus", f"meld:{a}", "--demonstrations-file", b],
    ):
        line = refused(CliRunner().invoke(app, [*map(str, words)]))

        assert f"{a}: No such file or directory; {b}: No such file or directory" in line


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("dialogue", [UNLABELLED, UNLABELLED | {"utterances": []}])
def test_development_split_without_labels_is_refused(
    keep: str, dialogue: dict[str, Any], command: Callable[..., Result], data: Path
) -> None:
    """No epoch is better than another by it."""
    (data / "held_out.jsonl").write_text(json.dumps(dialogue) + "\n")

    line = refused(command(stages=best(keep=keep)))

    assert "development: cannot be scored" in line
    assert "held_out.jsonl: no utterance has a label" in line


def test_each_development_split_needs_labels(command: Callable[..., Result], data: Path) -> None:
    """One of two would not count, in silence."""
    (data / "more.jsonl").write_text(json.dumps(UNLABELLED) + "\n")
    more = {"format": "jsonl", "path": "more.jsonl", "label_space": "meld"}

    line = refused(command(stages=best(), development=[*RECIPE["development"], more]))

    assert "more.jsonl: no utterance has a label" in line


def test_empty_development_split_is_refused(command: Callable[..., Result], data: Path) -> None:
    (data / "held_out.jsonl").write_text("\n")

    assert "held_out.jsonl: contains no dialogue" in refused(command(stages=best()))


def test_development_split_with_a_label_of_another_label_space_is_refused(
    command: Callable[..., Result], data: Path
) -> None:
    """With its line."""
    write_dialogues(data / "held_out.jsonl", HELD_OUT_TALKS | {"x": [("Ann", "Hm.", "Peaceful")]})

    line = refused(command(stages=best()))

    assert "held_out.jsonl:2: dialogue 'x', utterances[0].label: 'Peaceful' is not a label" in line


def test_best_epoch_is_not_chosen_in_labels_that_nothing_trains(
    command: Callable[..., Result],
) -> None:
    """The corpus's own, where the bundle is to answer in others."""
    line = refused(command(stages=best(), label_spaces=["emorynlp", "unified"]))

    assert "stage second: keep: best" in line
    assert "is scored in meld, which is not one of label_spaces: emorynlp, unified" in line


def test_best_forecast_is_told_on_turns_that_can_be_forecast(
    command: Callable[..., Result], data: Path
) -> None:
    """A dialogue's first turn cannot."""
    write_dialogues(data / "held_out.jsonl", {"x": [("Ann", "Hm.", "joy")]})
    forecast = {"main": 0, "prediction": 1}
    first = RECIPE["stages"][0]

    line = refused(command(stages=[first, best(tasks=forecast)[1]]))

    assert "stage second: keep: best: cannot be scored" in line
    assert "no utterance after the first of a dialogue has a label" in line


def test_corpus_that_is_not_sound_is_refused(command: Callable[..., Result], data: Path) -> None:
    """One to train on."""
    with (data / "talks.jsonl").open("a") as file:
        file.write('{"id": "ferry", "utterances": []}\n')

    line = refused(command())

    assert "talks.jsonl:4: id 'ferry' is also on line 1" in line
