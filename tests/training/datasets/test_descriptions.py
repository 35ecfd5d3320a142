"""`instructerc-train data describe`: what scenes look like, joined to a corpus."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.conversation.labels import LabelSpace
from training.cli import app
from training.datasets.reading import read_corpus

MELD = (
    "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\n"
    "Is the ferry late?,Ann,neutral,0,0\n"
    "It left.,Bo,sadness,0,2\n"
    "Hurrah!,Cy,joy,7,0\n"
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "train_sent_emo.csv"
    path.write_text(MELD)
    return path


def describe(corpus: str, rows: list[object], tmp_path: Path) -> Result:
    """Run the command; it writes `described.jsonl`."""
    descriptions = tmp_path / "seen.jsonl"
    descriptions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "new" / "described.jsonl"
    return CliRunner().invoke(
        app, ["data", "describe", corpus, str(descriptions), "--out", str(out)]
    )


def test_utterances_are_described_by_the_names_of_their_clips(
    corpus: Path, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Or by their place in a dialogue; everything else of the corpus stays, ids and labels too."""
    rows: list[object] = [
        {"utterance": "dia0_utt2", "description": "A man points at an empty pier."},
        {"dialogue": "train_sent_emo/7", "index": 0, "description": "A woman cheers."},
    ]

    result = describe(f"meld:{corpus}", rows, tmp_path)

    out = tmp_path / "new" / "described.jsonl"
    assert result.exit_code == 0, result.output
    assert result.output == (f"{out}: 2 dialogues, 3 utterances, 1 of them without a description\n")
    dialogues = read_corpus("jsonl", out, spaces, "meld").dialogues
    assert [u.description for d in dialogues for u in d.utterances] == [
        None,
        "A man points at an empty pier.",
        "A woman cheers.",
    ]
    plain = read_corpus("meld", corpus, spaces).dialogues
    assert [(d.id, u.id, u.text, u.label) for d in dialogues for u in d.utterances] == [
        (d.id, u.id, u.text, u.label) for d in plain for u in d.utterances
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"utterance": "dia0_utt1", "description": "A pier."}, "no utterance 'dia0_utt1'"),
        ({"dialogue": "train_sent_emo/0", "index": 2, "description": "A pier."}, "no utterance"),
        ({"dialogue": "train_sent_emo/0", "index": -1, "description": "A pier."}, "no utterance"),
        ({"utterance": "dia0_utt0", "description": "A dog."}, "also described on line 1"),
        ({"dialogue": "train_sent_emo/0", "index": 0, "description": "A."}, "described on line 1"),
        ({"utterance": "dia0_utt2", "description": " "}, "description must not be blank"),
        ({"utterance": "dia0_utt2", "description": None}, "needs description, and utterance or"),
        ({"dialogue": "train_sent_emo/0", "description": "A pier."}, "needs description, and"),
        (["dia0_utt2"], "needs description, and"),
    ],
)
def test_row_that_describes_no_utterance_is_refused(
    row: object, message: str, corpus: Path, tmp_path: Path
) -> None:
    """With its line, and nothing is written: a clip's name may be wrong by one everywhere."""
    first = {"utterance": "dia0_utt0", "description": "A pier."}

    result = describe(f"meld:{corpus}", [first, row], tmp_path)

    assert result.exit_code == 2
    assert f"{tmp_path}/seen.jsonl:2: " in result.output
    assert message in result.output
    assert not (tmp_path / "new").exists()


def test_line_that_is_no_json_is_refused(corpus: Path, tmp_path: Path) -> None:
    """Empty ones do not count."""
    (tmp_path / "cut.jsonl").write_text('\n{"utterance": "dia0_\n')
    out = tmp_path / "out.jsonl"

    result = CliRunner().invoke(
        app, ["data", "describe", f"meld:{corpus}", f"{tmp_path}/cut.jsonl", "--out", str(out)]
    )

    assert result.exit_code == 2
    assert f"{tmp_path}/cut.jsonl:2: not JSON" in result.output


def test_id_of_several_utterances_names_none_of_them(tmp_path: Path) -> None:
    """Ids are unique within a dialogue only; the place is."""
    talks = [
        {"id": name, "utterances": [{"id": "u1", "speaker": "Ann", "text": "Yes."}]}
        for name in ("one", "two")
    ]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    corpus = f"jsonl/meld:{tmp_path}/talks.jsonl"

    by_id = describe(corpus, [{"utterance": "u1", "description": "A pier."}], tmp_path)
    by_place = describe(
        corpus, [{"dialogue": "two", "index": 0, "description": "A pier."}], tmp_path
    )

    assert by_id.exit_code == 2
    assert "seen.jsonl:1: the corpus has more than one utterance 'u1'" in by_id.output
    assert by_place.exit_code == 0, by_place.output
