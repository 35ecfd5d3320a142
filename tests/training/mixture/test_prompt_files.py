"""`instructerc-train prompts`: a file of dialogues becomes a file of prompts and targets."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from training.cli import app

MELD = "<neutral, surprise, fear, sad, joyful, disgust, angry>"
TALK = [
    {
        "id": "d1",
        "utterances": [
            {"speaker": "Ann", "text": "We caught the ferry! 🙂", "label": "joy"},
            {"speaker": "Bo", "text": "So we did."},
            {"speaker": "Ann", "text": "Où est mon chapeau?", "label": "Fear"},
        ],
    },
    {"id": "d2", "utterances": [{"speaker": "Cy", "text": "Hello.", "label": "neutral"}]},
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "talk.jsonl"
    path.write_text("".join(json.dumps(dialogue) + "\n" for dialogue in TALK))
    return path


def prompts(source: Path, *options: str) -> Result:
    """Run the command; it writes beside its source, over what it wrote before."""
    target = source.with_name("prompts.jsonl")
    return CliRunner().invoke(app, ["prompts", str(source), str(target), "--force", *options])


def written(source: Path, *options: str) -> list[dict[str, Any]]:
    """The rows that the command writes."""
    result = prompts(source, "--label-space", "meld", *options)
    assert result.exit_code == 0, result.output
    lines = source.with_name("prompts.jsonl").read_text(encoding="utf-8").splitlines()
    assert f"{len(lines)} prompt{'s' * (len(lines) != 1)} written" in result.output
    return [json.loads(line) for line in lines]


def test_default_is_a_v2_prompt_an_utterance_in_order(source: Path) -> None:
    """The target is the word that should follow; an utterance without a label has none."""
    rows = written(source)

    assert [row["input"].split("\n")[2:] for row in rows] == [
        ["0: We caught the ferry! 🙂", "Emotion:"],
        ["0: We caught the ferry! 🙂", "1: So we did.", "Emotion:"],
        ["0: We caught the ferry! 🙂", "1: So we did.", "0: Où est mon chapeau?", "Emotion:"],
        ["0: Hello.", "Emotion:"],
    ]
    assert [row["target"] for row in rows] == ["joyful", None, "fear", "neutral"]


def test_main_task_of_the_published_prompt(source: Path) -> None:
    rows = written(source, "--template", "instructerc-v1")

    assert rows[1] == {
        "input": "Now you are expert of sentiment and emotional analysis. The following "
        "conversation noted between '### ###' involves several speakers. ### "
        '\t Speaker_0:"We caught the ferry! 🙂"\t Speaker_1:"So we did." ### Please select the '
        f'emotional label of < Speaker_1:"So we did."> from {MELD}:',
        "target": None,
    }
    assert [row["target"] for row in rows] == ["joyful", None, "fear", "neutral"]


def test_prediction_task_of_the_published_prompt(source: Path) -> None:
    """What is to be predicted is the label of the utterance that is not shown."""
    rows = written(source, "--template", "instructerc-v1", "--task", "prediction")

    assert rows[2] == {
        "input": "Now you are expert of sentiment and emotional analysis. The following "
        "conversation noted between '### ###' involves several speakers. ### "
        '\t Speaker_0:"We caught the ferry! 🙂"\t Speaker_1:"So we did."###Based on the above '
        "historical utterances, next utterance is spoken by <0>, please predict the emotion "
        f"states of <0> from {MELD}:",
        "target": "fear",
    }
    # A first turn has nothing to predict from: the main prompt, as published.
    assert rows[3]["input"].endswith(f' Speaker_0:"Hello."> from {MELD}:')


def test_speaker_task_of_the_published_prompt(source: Path) -> None:
    """The target is the speaker, label or not."""
    rows = written(source, "--template", "instructerc-v1", "--task", "speaker")

    assert rows[1] == {
        "input": "Now you are expert of sentiment and emotional analysis. Please select the "
        "Speaker label of the utterance <Speaker: So we did.> from <Speaker_0, Speaker_1, "
        "Speaker_2, Speaker_3, Speaker_4, Speaker_5, Speaker_6, Speaker_7, Speaker_8>:",
        "target": "Speaker_1",
    }


def test_published_baseline_is_a_template_of_its_own(source: Path) -> None:
    rows = written(source, "--template", "instructerc-plain-v1")

    assert rows[0] == {
        "input": f"Please select the emotional label of <We caught the ferry! 🙂> from {MELD}:",
        "target": "joyful",
    }


def test_description_is_shown_by_the_template_that_has_a_place_for_it(source: Path) -> None:
    """An utterance without one has no such section."""
    talk = [{"speaker": "Ann", "text": "Hello."}, {"speaker": "Bo", "text": "Hi.", "label": "joy"}]
    talk[1]["description"] = "He waves."
    source.write_text(json.dumps({"id": "d", "utterances": talk}))

    first, second = written(source, "--template", "dialoguellm-v1")

    assert "Video Description" not in first["input"]
    assert second["input"].endswith(
        "\n\n### Video Description:\nHe waves.\n\n### Context:\nHello."
        "\n\n### Input:\nHi.\n\n### Response:\n"
    )
    assert "He waves" not in "".join(row["input"] for row in written(source))


def test_published_prompt_keeps_published_speaker_indexes(source: Path) -> None:
    """Its data calls speakers by their numbers; v2 counts anew."""
    utterance = {"speaker": "4", "text": "Hello.", "label": "joy"}
    source.write_text(json.dumps({"id": "d", "utterances": [utterance]}))

    assert ' Speaker_4:"Hello."' in written(source, "--template", "instructerc-v1")[0]["input"]
    assert "\n0: Hello." in written(source)[0]["input"]


@pytest.mark.parametrize(("window", "shown"), [("0", 0), ("1", 1), ("2", 2), ("50", 2)])
def test_window_says_how_many_lines_are_shown_before(window: str, shown: int, source: Path) -> None:
    rows = written(source, "--window", window)

    assert rows[2]["input"].count("\n") == 1 + shown + 1 + 1


def test_text_is_written_as_people_write_it(source: Path) -> None:
    """UTF-8, not escapes; input before target, as the published files have it."""
    written(source)
    raw = source.with_name("prompts.jsonl").read_bytes().decode("utf-8")

    assert "ferry! 🙂" in raw
    assert "Où" in raw
    assert all(line.startswith('{"input": "You are') for line in raw.splitlines())


def test_label_space_is_found_without_regard_to_case(source: Path) -> None:
    result = prompts(source, "--label-space", "MELD")

    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "mean"], "unknown task 'mean'; known are main, speaker, prediction"),
        (
            ["--template", "v9"],
            "unknown template 'v9'; known are instructerc-v1, instructerc-plain-v1, dialoguellm-v1",
        ),
        (
            ["--label-space", "moods"],
            "unknown label space 'moods'; known are dailydialog, emorynlp, iemocap, meld",
        ),
        (
            ["--label-space", "meld", "--task", "speaker", "--template", "dialoguellm-v1"],
            "template dialoguellm-v1 has no speaker task",
        ),
        (
            ["--template", "instructerc-plain-v1", "--task", "prediction"],
            "template instructerc-plain-v1 has no prediction task",
        ),
        (
            ["--label-space", "emorynlp"],
            "talk.jsonl: dialogue 'd1', utterances[0]: 'joy' is not a label of emorynlp",
        ),
        (
            ["--template", "instructerc-v1", "--task", "speaker"],
            "utterances[0]: the task speaker is not defined for label space 'unified'",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    options: list[str], message: str, source: Path
) -> None:
    """Exit status 2, no traceback, no file."""
    result = prompts(source, *options)

    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("instructerc-train: ")
    assert result.stderr.count("\n") == 1
    assert not source.with_name("prompts.jsonl").exists()


def test_speaker_that_the_task_does_not_list_is_named(source: Path) -> None:
    """MELD's has nine; the tenth voice of a dialogue has no answer."""
    crowd = [{"speaker": f"S{n}", "text": "Hello.", "label": "joy"} for n in range(10)]
    source.write_text(json.dumps({"id": "crowd", "utterances": crowd}))

    result = prompts(
        source, "--label-space", "meld", "--template", "instructerc-v1", "--task", "speaker"
    )

    assert result.exit_code == 2
    assert "dialogue 'crowd', utterances[9]: speaker index 9" in result.stderr


def test_error_in_the_middle_leaves_an_earlier_file_alone(source: Path) -> None:
    """Half a file would pass for a whole one."""
    target = source.with_name("prompts.jsonl")
    target.write_text("earlier\n")
    with source.open("a") as file:
        file.write('{"id": "d1", "utterances": []}\n')

    result = prompts(source, "--label-space", "meld")

    assert result.exit_code == 2
    assert "talk.jsonl:3: id 'd1' is also on line 1" in result.stderr
    assert target.read_text() == "earlier\n"


def test_missing_source_is_said_in_a_line(tmp_path: Path) -> None:
    result = prompts(tmp_path / "none.jsonl")

    assert result.exit_code == 2
    assert "none.jsonl" in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)
