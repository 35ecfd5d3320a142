"""Files of dialogues: what is written is read back, and what is broken is named."""

import json
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.conversation.dialogue import Dialogue, Utterance, fault_of_name, fault_of_text
from service.dialogue_files import (
    DialogueFormatError,
    dialogue_to_json,
    read_dialogues,
    read_each_dialogue,
    write_dialogues,
)
from service.dialogue_format import dialogue_schema

SCHEMA = Path(__file__).parents[1] / "docs" / "dialogues.schema.json"


def told_apart(utterances: list[Utterance]) -> bool:
    """Whether no two have one id; several may have none."""
    named = [utterance.id for utterance in utterances if utterance.id is not None]
    return len(set(named)) == len(named)


TEXTS = st.text(max_size=30).filter(lambda text: fault_of_text(text) is None)
NAMES = st.text(max_size=30).filter(lambda text: fault_of_name(text) is None)
UTTERANCES = st.builds(
    Utterance,
    NAMES,
    TEXTS,
    st.none() | NAMES,
    st.none() | TEXTS,
    id=st.none() | NAMES,
    start=st.none() | st.floats(0, 1000),
    end=st.none() | st.floats(1000, 2000),
    role=st.none() | NAMES,
)
DIALOGUES = st.lists(
    st.builds(Dialogue, NAMES, st.lists(UTTERANCES, max_size=4).filter(told_apart).map(tuple)),
    max_size=4,
    unique_by=lambda dialogue: dialogue.id,
)


@given(DIALOGUES)
def test_written_dialogues_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, dialogues: list[Dialogue]
) -> None:
    """Line breaks, quotes and whatever else somebody may say included."""
    path = tmp_path_factory.mktemp("dialogues") / "dialogues.jsonl"
    write_dialogues(dialogues, path)

    assert list(read_dialogues(path)) == dialogues


def test_written_file_is_readable_by_people(tmp_path: Path) -> None:
    """One line a dialogue, text as it is spoken, optional fields only where they are set."""
    path = tmp_path / "dialogues.jsonl"
    spoken = (
        Utterance("Zoë", "Ça va?", "joy", id="u7"),
        Utterance("Bo", "🙂", description="He grins.", start=1.5, end=2.0, role="agent"),
    )

    write_dialogues([Dialogue("d1", spoken), Dialogue("d2", ())], path)

    assert path.read_text(encoding="utf-8") == (
        '{"id": "d1", "utterances": '
        '[{"id": "u7", "speaker": "Zoë", "text": "Ça va?", "label": "joy"}, '
        '{"speaker": "Bo", "role": "agent", "start": 1.5, "end": 2.0, "text": "🙂", '
        '"description": "He grins."}]}\n'
        '{"id": "d2", "utterances": []}\n'
    )


def test_optional_fields_may_be_null_or_missing(tmp_path: Path) -> None:
    """What an answer said of an utterance is none of a reader's business."""
    path = tmp_path / "dialogues.jsonl"
    path.write_text(
        '{"id": "d", "line": 1, "utterances": [{"speaker": "A", "text": "x", "label": null}, '
        '{"speaker": "A", "text": "y", "label": "joy", "description": null, "id": null, '
        '"emotion": {"label": "joy"}, "demonstrations": [], "degraded": []}]}'
    )

    assert [*read_dialogues(path)] == [
        Dialogue("d", (Utterance("A", "x"), Utterance("A", "y", "joy")))
    ]


def test_blank_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    """An error's line number is the editor's."""
    path = tmp_path / "dialogues.jsonl"
    path.write_bytes(b'\n{"id": "a", "utterances": []}\r\n  \t\n{"id": 5}\n')
    dialogues = read_dialogues(path)

    assert next(dialogues) == Dialogue("a", ())
    with pytest.raises(
        DialogueFormatError, match=r"dialogues\.jsonl:4: id must be a string; utterances is missing"
    ):
        next(dialogues)


def test_repeated_id_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "dialogues.jsonl"
    write_dialogues([Dialogue("a", ()), Dialogue("b", ()), Dialogue("a", ())], path)

    with pytest.raises(DialogueFormatError, match=r"jsonl:3: id 'a' is also on line 1"):
        list(read_dialogues(path))


def test_utterances_of_two_dialogues_may_share_an_id(tmp_path: Path) -> None:
    """Most corpora count them anew in each."""
    path = tmp_path / "dialogues.jsonl"
    dialogues = [Dialogue(name, (Utterance("A", "x", id="0"),)) for name in ("a", "b")]
    write_dialogues(dialogues, path)

    assert list(read_dialogues(path)) == dialogues


def _one(utterance: object) -> bytes:
    """A line with a good utterance and this one."""
    return json.dumps(
        {"id": "d", "utterances": [{"id": "u1", "speaker": "A", "text": "x"}, utterance]}
    ).encode()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"id": "d",', "not JSON: .* at column 12"),
        (b'["d"]', "a dialogue must be an object"),
        (b"{}", 'is not a dialogue: needs "id" and "utterances", has no field'),
        (b'{"results": [], "language": "en"}', "is not a dialogue: .*, has results, language$"),
        (b'{"utterances": []}', "id is missing"),
        (b'{"id": null, "utterances": []}', "id must be a string"),
        (
            b'{"id": "d", "utterances": [], "split": "dev"}',
            "split: unknown field; known are id, ut",
        ),
        (b'{"id": "d\\n", "utterances": []}', "id must be on one line"),
        (b'{"id": "d"}', "utterances is missing"),
        (b'{"id": "d", "utterances": {}}', "utterances must be a list"),
        (_one("hi"), r"utterances\[1\] must be an object"),
        (_one({"text": "x"}), r"utterances\[1\]\.speaker is missing"),
        (_one({"speaker": 1, "text": "x"}), r"utterances\[1\]\.speaker must be a string"),
        (_one({"speaker": "A"}), r"utterances\[1\]\.text is missing"),
        (_one({"speaker": "A", "text": None}), r"utterances\[1\]\.text must be a string"),
        (
            _one({"speaker": "A", "text": "x", "label": 0}),
            r"utterances\[1\]\.label must be a string",
        ),
        (
            _one({"speaker": "A", "text": "x", "description": []}),
            r"utterances\[1\]\.description must be a string",
        ),
        (
            _one({"id": 2, "speaker": "A", "text": "x"}),
            r"utterances\[1\]\.id must be a string",
        ),
        (
            _one({"speaker": "A", "text": "x", "start": "0:12"}),
            r"utterances\[1\]\.start must be a number",
        ),
        (
            _one({"speaker": "A", "text": "x", "start": -1}),
            r"utterances\[1\]\.start must not be negative",
        ),
        (
            _one({"speaker": "A", "text": "x", "end": float("nan")}),
            r"utterances\[1\]\.end must be a number",
        ),
        (
            _one({"speaker": "A", "text": "x", "role": "agent\n"}),
            r"utterances\[1\]\.role must be on one line",
        ),
        (
            _one({"id": "u1", "speaker": "A", "text": "x"}),
            "utterances 1 and 0 have the same id; each must have its own",
        ),
        (
            _one({"speeker": "A", "text": "x"}),
            r"utterances\[1\]\.speaker is missing; utterances\[1\]\.speeker: unknown field; known "
            "are description, end, id, label, role, speaker, start, text$",
        ),
        (
            _one({"speaker": "A", "text": "ab\ud83d"}),
            r"utterances\[1\]\.text must not contain lone surrogates",
        ),
        (b'{"id": "\\udc00", "utterances": []}', "id must not contain lone surrogates"),
    ],
)
def test_error_names_file_line_and_field(line: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "dialogues.jsonl"
    path.write_bytes(b'{"id": "first", "utterances": []}\n' + line + b"\n")

    with pytest.raises(DialogueFormatError, match=rf"dialogues\.jsonl:2: {problem}"):
        list(read_dialogues(path))


def test_each_dialogue_is_read_whatever_is_wrong_with_others(tmp_path: Path) -> None:
    """What is wrong comes in its place."""
    path = tmp_path / "dialogues.jsonl"
    path.write_bytes(
        b'{"id": "a", "utterances": []}\n{"id": "b"\n'
        + _one({"speaker": "A", "text": " "})
        + b'\n{"id": "a", "utterances": []}\n{"id": "c", "utterances": []}'
    )

    rows = [
        str(each) if isinstance(each, ValueError) else each for each in read_each_dialogue(path)
    ]

    assert rows == [
        Dialogue("a", ()),
        f"{path}:2: not JSON: Expecting ',' delimiter at column 11",
        f"{path}:3: utterances[1].text must not be blank",
        f"{path}:4: id 'a' is also on line 1",
        Dialogue("c", ()),
    ]


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "dialogues.jsonl"

    with pytest.raises(DialogueFormatError, match=r"'d': utterances\[0\]\.text must not be blank"):
        write_dialogues([Dialogue("d", (Utterance("A", " "),))], path)

    assert not path.exists()


def test_the_committed_schema_is_of_what_is_read() -> None:
    """After a change that is meant, `make openapi` writes it anew."""
    assert json.loads(SCHEMA.read_text("utf-8")) == dialogue_schema()


@settings(deadline=None)
@given(DIALOGUES)
def test_the_schema_takes_what_is_written(dialogues: list[Dialogue]) -> None:
    document = jsonschema_rs.validator_for(dialogue_schema())

    assert all(document.is_valid(dialogue_to_json(each)) for each in dialogues)
