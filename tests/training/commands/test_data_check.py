"""`data check`: what corpora hold, and all that is wrong with them."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from training.cli import app

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
MELD = (
    HEADER
    + "1,Is the flat ours?,Ann,neutral,neutral,0,0\n"
    + '2,"No way, they gave it to us?",Bob,surprise,positive,0,1\n'
    + "3,I am so happy.,Ann,joy,positive,0,4\n"
    + "4,Who parks like that?,Cem,neutral,negative,1,0\n"
)
EMORYNLP = (
    "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode\n"
    "The stairs creak.,['Ida'],Scared,3,1,1,2\n"
)
DIALOGUE = {
    "id": "d1",
    "utterances": [
        {"speaker": "Ann", "text": "Is the ferry late?", "label": "JOY"},
        {"speaker": "Bo", "text": "It is."},
    ],
}


def check(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", "check", *map(str, words)])


@pytest.fixture
def meld(tmp_path: Path) -> Path:
    path = tmp_path / "small.csv"
    path.write_text(MELD)
    return path


def test_what_a_corpus_holds_is_said_in_tables(meld: Path) -> None:
    """Labels in their own order, with their shares; speakers; lengths; missing numbers."""
    result = check(meld)

    assert result.exit_code == 0
    assert result.output == (
        f"{meld}: meld, 2 dialogues, 4 utterances, 3 speakers\n\n"
        "| label | utterances | % |\n|---|---|---|\n"
        "| neutral | 2 | 50.0 |\n| surprise | 1 | 25.0 |\n| fear | 0 | 0.0 |\n"
        "| sadness | 0 | 0.0 |\n| joy | 1 | 25.0 |\n| disgust | 0 | 0.0 |\n| anger | 0 | 0.0 |\n\n"
        "| speaker | utterances | % |\n|---|---|---|\n"
        "| Ann | 2 | 50.0 |\n| Bob | 1 | 25.0 |\n| Cem | 1 | 25.0 |\n\n"
        "| | least | median | mean | most |\n|---|---|---|---|---|\n"
        "| utterances a dialogue | 1 | 2 | 2.0 | 3 |\n"
        "| words an utterance | 4 | 4 | 4.8 | 7 |\n"
        "| characters an utterance | 14 | 18.5 | 19.5 | 27 |\n\n"
        "2 utterance numbers missing between the first and the last, in 1 dialogue\n\n"
        "No faults.\n"
    )


def test_the_same_is_said_in_json(meld: Path) -> None:
    (report,) = json.loads(check(meld, "--json").stdout)

    assert report["labels"]["neutral"] == 2
    assert report["speakers"] == 3
    assert report["lengths"]["utterances a dialogue"] == {
        "least": 1,
        "median": 2.0,
        "mean": 2.0,
        "most": 3,
    }
    assert (report["gaps"], report["missing"], report["faults"]) == (1, 2, [])


def test_faults_are_listed_up_to_20_and_counted(meld: Path) -> None:
    """With their lines; the status tells."""
    meld.write_text(MELD + "".join(f"5,Hm.,Ann,bored,x,{n},0\n" for n in range(5, 30)))

    result = check(meld)

    assert result.exit_code == 1
    lines = result.output.split("25 faults:\n")[1].splitlines()
    assert len(lines) == 21
    assert lines[0].startswith(f"{meld}:6: Emotion: 'bored' is not a label of meld")
    assert lines[19].startswith(f"{meld}:25: ")
    assert lines[20] == "and 5 more"
    in_json = check(meld, "--json")
    assert in_json.exit_code == 1
    assert len(json.loads(in_json.stdout)[0]["faults"]) == 25


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", MELD, "meld"),
        ("a.csv", MELD.encode("utf-16"), "meld"),
        ("a.csv", MELD.replace(",", "\t"), "meld"),
        ("a.txt", EMORYNLP, "emorynlp"),
        ("a.csv", EMORYNLP.encode("utf-8-sig"), "emorynlp"),
        ("a.json", '{"season_id": "s01",\n "episodes": []}', "emorynlp"),
        ("a.tsv", "What a goal!\t13,27\tc1\n", "goemotions"),
        ("a.jsonl", json.dumps(DIALOGUE), "jsonl"),
        ("a.txt", json.dumps(DIALOGUE), "jsonl"),
        ("a.jsonl", "", "jsonl"),
        ("dialogues_test.txt", "Hm . __eou__\n", "dailydialog"),
        ("Session1/dialog/transcriptions/Ses01F.txt", "", "iemocap"),
        ("test/dialogues_test.txt", "Hm . __eou__\n", "dailydialog"),
    ],
)
def test_format_is_told_by_what_a_file_holds(
    name: str, text: str | bytes, told: str, tmp_path: Path
) -> None:
    """A file that is broken is told, too, and what is wrong said in that format's terms."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    result = check(tmp_path / name.partition("/")[0], "--json")

    assert json.loads(result.stdout)[0]["format"] == told


@pytest.mark.parametrize("words", [["--format", "emorynlp", "{}"], ["emorynlp:{}"]])
def test_format_that_is_named_counts(words: list[str], meld: Path) -> None:
    """Whatever a file looks like."""
    result = check(*(word.format(meld) for word in words))

    assert result.exit_code == 1
    assert "1 fault:" in result.output
    assert f"{meld}:1: missing column Scene_ID, Season, Episode" in result.output


def test_labels_of_jsonl_are_checked_against_the_label_space_that_is_named(tmp_path: Path) -> None:
    """Without one it is said which label spaces know them all."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(DIALOGUE))

    free, right, wrong = (check(*w) for w in (
        [path], [f"jsonl/meld:{path}"], [path, "--label-space", "emorynlp"]
    ))  # fmt: skip

    assert (
        "labels are not checked: name their label space with --label-space; all are labels of meld"
        in (free.output)
    )
    assert "| joy | 1 | 50.0 |" in right.output
    assert "| (no label) | 1 | 50.0 |" in right.output
    assert (free.exit_code, right.exit_code, wrong.exit_code) == (0, 0, 1)
    assert "utterances[0].label: 'JOY' is not a label of emorynlp" in wrong.output


def test_what_files_have_in_common_is_said(tmp_path: Path) -> None:
    """Ids, and whole dialogues under any id; neither is a fault of a file."""
    train, dev = tmp_path / "train.jsonl", tmp_path / "dev.jsonl"
    other = DIALOGUE | {"id": "d2"}
    train.write_text(f"{json.dumps(DIALOGUE)}\n")
    dev.write_text(f"{json.dumps({'id': 'd1', 'utterances': []})}\n{json.dumps(other)}\n")

    result = check(train, dev)

    assert result.exit_code == 0
    assert f"ids of dialogues that are also in {train}: 1 ('d1')" in result.output
    assert f"dialogues with the same text as one in {train}: 1 ('d2')" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.csv", "meld:other.csv"], "none.csv: No such file or directory; other.csv: No such"),
        (["{}", "--format", "csv"], "unknown format 'csv'; known are meld, emorynlp"),
        (
            ["{}", "--format", "jsonl", "--label-space", "moods"],
            "unknown label space 'moods'; known are dailydialog",
        ),
    ],
)
def test_call_that_makes_no_sense_is_refused(words: list[str], message: str, meld: Path) -> None:
    """With status 2, apart from faults."""
    result = check(*(word.format(meld) for word in words))

    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("text", "message"), [("hello\n", "its format cannot be detected"), ("", "is empty")]
)
def test_file_that_could_be_anything_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)

    result = check(path)

    assert result.exit_code == 2
    assert f"a.txt: {message}" in result.stderr


@pytest.mark.parametrize(
    ("name", "pack"),
    [("a.jsonl.gz", gzip.compress), ("a.json", lambda raw: raw.decode().encode("utf-16"))],
)
def test_dialogues_are_told_however_they_are_packed(
    name: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """As `score` reads them."""
    path = tmp_path / name
    path.write_bytes(pack(json.dumps(DIALOGUE).encode()))

    result = check(path, "--label-space", "meld")

    assert result.exit_code == 0
    assert f"{path}: jsonl, meld, 1 dialogue, 2 utterances" in result.output


@pytest.mark.parametrize(
    ("pack", "message"),
    [
        (gzip.compress, "is compressed with gzip; decompress it (gunzip)"),
        (lambda raw: raw.decode().encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (lambda raw: raw.decode().encode("utf-16-le"), "is UTF-16; save it as UTF-8"),
        (lambda raw: raw.replace(b"flat", b"fl\xe4t"), "2: not UTF-8: invalid continuation byte"),
        (lambda raw: raw.replace(b"Dialogue_ID", b"Talk"), "1: missing column Dialogue_ID"),
        (lambda raw: raw.replace(b",", b"\t"), "columns are separated by commas, not tabs"),
    ],
    ids=["gzip", "UTF-16", "UTF-16 without a mark", "Latin-1", "no ids", "tabs"],
)
def test_table_that_is_written_otherwise_is_told_so(
    pack: Callable[[bytes], bytes], message: str, meld: Path
) -> None:
    """In the words of the format that it was meant to be."""
    meld.write_bytes(pack(MELD.encode()))

    result = check(meld)

    assert result.exit_code == 1
    assert message in result.output


def test_rows_of_commas_are_passed_over(meld: Path) -> None:
    """As spreadsheets leave them behind a table."""
    meld.write_text(MELD + 6 * "," + "\n")

    assert check(meld).exit_code == 0


def test_half_a_packed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(DIALOGUE).encode())[:-10])

    result = check(path)

    assert result.exit_code == 2
    assert f"{path}: cannot be decompressed with gzip" in result.stderr


def test_no_model_library_is_loaded(meld: Path) -> None:
    """It takes seconds, whatever is installed."""
    program = (
        "import sys; from typer.testing import CliRunner; from training.cli import app; "
        "assert CliRunner().invoke(app, ['data', 'check', sys.argv[1]]).exit_code == 0; "
        "print(*{module.split('.')[0] for module in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(meld)], check=True, capture_output=True, text=True
    )

    assert {*done.stdout.split()} & {"torch", "transformers", "vllm", "sklearn"} == set()
