"""What a file is, its content tells; whoever knows better says so."""

import gzip
import json
import re
from pathlib import Path

import pytest

from service.conversation.dialogue import Dialogue
from service.dialogue_files import (
    DialogueFormatError,
    Reading,
    dialogue_to_json,
    read_dialogues,
    read_each_dialogue,
)
from service.dialogue_format import DialogueIn
from service.transcripts.formats import Format, format_of_document, format_of_text
from service.transcripts.tables import Columns, Row, table
from tests.transcripts.reading import FILES, parts, refusal, spoken
from training.datasets.reading import look

DOCUMENTS = [path for path in sorted(FILES.glob("*/*.json")) if path.stem != "bare-list"]
PAGE = (Path(__file__).parents[2] / "docs" / "files.md").read_text("utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
TEXTS = [path for folder in ("webvtt", "srt", "csv") for path in sorted((FILES / folder).iterdir())]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_document_is_of_the_program_that_its_folder_names(path: Path) -> None:
    assert format_of_document(json.loads(path.read_bytes())) == path.parent.name


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_content_tells_the_format_whatever_the_name(path: Path, tmp_path: Path) -> None:
    """Two have no content that tells; there the end of the name does."""
    unnamed = tmp_path / path.stem
    unnamed.write_bytes(path.read_bytes())
    head = path.read_text("utf-8-sig", "surrogateescape").splitlines()
    told = format_of_text(head, "")

    expected = {"no-header": Format.JSONL, "no-text": Format.JSONL, "other-names": Format.JSONL}
    assert told == expected.get(path.stem, path.parent.name)
    assert format_of_text(head, path.suffix) == path.parent.name


def test_a_dialogue_is_never_taken_for_a_transcript() -> None:
    """Whatever the format may get, it has an id and utterances."""
    required = {name for name, info in DialogueIn.model_fields.items() if info.is_required()}

    assert required == {"id", "utterances"}
    assert format_of_document({"id": "d", "segments": []}) is None
    assert format_of_document({"utterances": [], "segments": [], "messages": []}) is None


def test_times_and_roles_of_dialogues_survive() -> None:
    (dialogue,) = parts("jsonl/times.jsonl")

    assert isinstance(dialogue, Dialogue)
    assert dialogue_to_json(dialogue) == {
        "id": "d1",
        "utterances": [
            {"id": "u1", "speaker": "Mia", "role": "agent", "start": 0.5, "end": 1.5}
            | {"text": "Hello?"},
            {"speaker": "Jo", "start": 2.0, "text": "We won!", "label": "joy"},
        ],
    }


def test_each_line_may_have_its_own_format() -> None:
    """A transcript is named after the file and its line."""
    assert parts("jsonl/mixed.jsonl") == [
        Dialogue("d1", (spoken("Ida", "We won!"),)),
        Dialogue("mixed:2", (spoken("SPEAKER_00", "Oh.", 0.0, 1.0),)),
        "3: segments[0].text is missing",
        Dialogue("mixed:4", (spoken("user", "Bye.", role="user"),)),
    ]


@pytest.mark.parametrize("name", ["csv/calls.csv", "srt/named.srt", "whisperx/diarized.json"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gzip"])
def test_encodings_and_gzip_are_those_of_every_file(
    name: str, encoding: str, tmp_path: Path
) -> None:
    plain = (FILES / name).read_text("utf-8")
    path = tmp_path / Path(name).name
    if encoding == "gzip":
        path = path.with_name(f"{path.name}.gz")
        path.write_bytes(gzip.compress(plain.encode()))
    else:
        path.write_text(plain, encoding)

    assert list(read_each_dialogue(path)) == parts(name)


def test_whoever_names_a_format_is_believed() -> None:
    """A file that is of another is refused for what that format needs."""
    assert refusal("whisperx/diarized.json", Reading(Format.DEEPGRAM)) == (
        "1: results must be an object"
    )
    assert refusal("whisperx/diarized.json", Reading(Format.JSONL)).startswith(
        '1: is not a dialogue: needs "id" and "utterances"'
    )
    with pytest.raises(DialogueFormatError, match='begins with "WEBVTT"'):
        parts("srt/named.srt", Reading(Format.WEBVTT))


def test_whoever_names_columns_has_a_table(tmp_path: Path) -> None:
    """Whatever the file is called, and is."""
    path = tmp_path / "export.txt"
    path.write_bytes((FILES / "csv/other-names.csv").read_bytes())
    columns = Columns("Who", "What", "id")

    (dialogue,) = read_each_dialogue(path, Reading(columns=columns))
    assert isinstance(dialogue, Dialogue)
    with pytest.raises(DialogueFormatError, match="vtt:1: no column 'Who'; there are WEBVTT"):
        parts("webvtt/teams.vtt", Reading(columns=columns))


def test_training_reads_transcripts_too() -> None:
    """So `data check` tells what is in them."""
    reading = look("jsonl", FILES / "whisperx/diarized.json", None)

    assert reading.dialogues == tuple(read_dialogues(FILES / "whisperx/diarized.json"))


def test_documentation_has_a_command_for_each_format() -> None:
    assert {row[0].strip("`") for row in ROWS if "instructerc score" in row[-1]} == set(Format)


@pytest.mark.parametrize(
    ("content", "cell"),
    [
        *((content, "x") for content in ("text", "speaker", "role", "id")),
        *((content, "1.5") for content in ("start", "end")),
    ],
)
def test_documentation_has_the_names_of_columns(content: str, cell: str) -> None:
    """Each is found."""
    (names,) = [row[1] for row in ROWS if row[0].removesuffix(" (required)") == content]

    for name in re.findall("`(.+?)`", names):
        header, cells = ([name], [cell]) if content == "text" else (["text", name], ["x", cell])
        (row,) = table([",".join(header) + "\n", ",".join(cells) + "\n"], Columns())
        assert isinstance(row, Row)
        assert getattr(row.segment, content) == (1.5 if cell == "1.5" else "x"), name


@pytest.mark.parametrize(
    "name", ["dialogue", "Dialog", "conversation", "call", "session", "thread"]
)
def test_dialogues_have_names_or_ids(name: str) -> None:
    for column in (name, f"{name}_id"):
        (row,) = table([f"{column},text\n", "d,x\n"], Columns())
        assert isinstance(row, Row)
        assert row.dialogue == "d"


@pytest.mark.parametrize("name", ["csv/broken-rows.csv", "webvtt/broken-cue.vtt"])
def test_blank_lines_at_the_beginning_count_and_are_skipped(name: str, tmp_path: Path) -> None:
    path = tmp_path / Path(name).name
    path.write_bytes(b"\n \n" + (FILES / name).read_bytes())

    *errors, dialogue = read_each_dialogue(path)

    assert dialogue == parts(name)[-1]
    told = [str(error).removeprefix(f"{path}:").partition(":") for error in errors]
    shifted = [str(error).partition(":") for error in parts(name)[:-1]]
    assert [(int(line) - 2, why) for line, _, why in told] == [
        (int(line), why) for line, _, why in shifted
    ]


def test_empty_file_has_no_dialogue(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(b"\n\n")

    assert list(read_each_dialogue(path)) == []
