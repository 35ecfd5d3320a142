"""Files of dialogues: what is written is read back, and what is broken is named."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.conversation.dialogue import Dialogue, Utterance
from service.dialogue_files import DialogueFormatError, read_dialogues, write_dialogues


def told_apart(utterances: list[Utterance]) -> bool:
    """Whether no two have one id; several may have none."""
    named = [utterance.id for utterance in utterances if utterance.id is not None]
    return len(set(named)) == len(named)


TEXTS = st.text(max_size=30)
UTTERANCES = st.builds(
    Utterance, TEXTS, TEXTS, st.none() | TEXTS, st.none() | TEXTS, id=st.none() | TEXTS
)
DIALOGUES = st.lists(
    st.builds(Dialogue, TEXTS, st.lists(UTTERANCES, max_size=4).filter(told_apart).map(tuple)),
    max_size=4,
    unique_by=lambda dialogue: dialogue.id,
)


@given(DIALOGUES)
def test_written_dialogues_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, dialogues: list[Dialogue]
) -> None:
    """Line breaks, controls, quotes and empty strings included."""
    path = tmp_path_factory.mktemp("dialogues") / "dialogues.jsonl"
    write_dialogues(dialogues, path)

    assert list(read_dialogues(path)) == dialogues


def test_written_file_is_readable_by_people(tmp_path: Path) -> None:
    """One line a dialogue, text as it is spoken, optional fields only where they are set."""
    path = tmp_path / "dialogues.jsonl"
    spoken = (
        Utterance("Zoë", "Ça va?", "joy", id="u7"),
        Utterance("Bo", "🙂", description="He grins."),
    )

    write_dialogues([Dialogue("d1", spoken), Dialogue("d2", ())], path)

    assert path.read_text(encoding="utf-8") == (
        '{"id": "d1", "utterances": '
        '[{"id": "u7", "speaker": "Zoë", "text": "Ça va?", "label": "joy"}, '
        '{"speaker": "Bo", "text": "🙂", "description": "He grins."}]}\n'
        '{"id": "d2", "utterances": []}\n'
    )


def test_optional_fields_may_be_null_or_missing(tmp_path: Path) -> None:
    """Fields that the format does not know are none of its business."""
    path = tmp_path / "dialogues.jsonl"
    path.write_text(
        '{"id": "d", "split": "dev", "utterances": [{"speaker": "A", "text": "x", "label": null}, '
        '{"speaker": "A", "text": "y", "label": "joy", "description": null, "id": null, '
        '"time": 3}]}'
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
        DialogueFormatError, match=r"dialogues\.jsonl:4: id must be a string, not 5"
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
        (b"{}", "id is missing"),
        (b'{"id": null, "utterances": []}', "id must be a string, not None"),
        (b'{"id": "d"}', "utterances must be a list"),
        (b'{"id": "d", "utterances": {}}', "utterances must be a list"),
        (_one("hi"), r"utterances\[1\] must be an object"),
        (_one({"text": "x"}), r"utterances\[1\]\.speaker is missing"),
        (_one({"speaker": 1, "text": "x"}), r"utterances\[1\]\.speaker must be a string, not 1"),
        (_one({"speaker": "A"}), r"utterances\[1\]\.text is missing"),
        (_one({"speaker": "A", "text": None}), r"utterances\[1\]\.text must be a string, not None"),
        (
            _one({"speaker": "A", "text": "", "label": 0}),
            r"utterances\[1\]\.label must be a string",
        ),
        (
            _one({"speaker": "A", "text": "", "description": []}),
            r"utterances\[1\]\.description must be a string, not \[\]",
        ),
        (
            _one({"id": 2, "speaker": "A", "text": ""}),
            r"utterances\[1\]\.id must be a string, not 2",
        ),
        (
            _one({"id": "u1", "speaker": "A", "text": ""}),
            r"utterances\[1\]\.id 'u1' is also that of utterances\[0\]",
        ),
        (
            _one({"speaker": "A", "text": "ab\ud83d"}),
            r"utterances\[1\]\.text holds a lone surrogate at character 2",
        ),
        (b'{"id": "\\udc00", "utterances": []}', "id holds a lone surrogate at character 0"),
    ],
)
def test_error_names_file_line_and_field(line: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "dialogues.jsonl"
    path.write_bytes(b'{"id": "first", "utterances": []}\n' + line + b"\n")

    with pytest.raises(DialogueFormatError, match=rf"dialogues\.jsonl:2: {problem}"):
        list(read_dialogues(path))
