"""Scored dialogues are written for programs, for spreadsheets and for players."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.conversation.dialogue import Dialogue, Utterance, fault_of_name, fault_of_text
from service.dialogue_files import dialogue_to_json, read_dialogues
from service.files import written_whole
from service.scored_files import Output, OutputMismatch, check_output, output_of, writer

LABELS = ("joy", "no emotion")
TALK = Dialogue(
    "call/1",
    (
        Utterance("Mia", "Hello?", id="u1", start=0.5, end=1.5, role="agent"),
        Utterance("Jo & Bo", "a <3 b --> c,\n“so”", "joy", start=3661.0),
        Utterance("Mia", "Well.", start=3662.25),
    ),
)


def scored(dialogue: Dialogue) -> dict[str, Any]:
    """The dialogue as a line, with answers that differ in their probabilities."""
    line = dialogue_to_json(dialogue)
    for index, row in enumerate(line["utterances"]):
        joy = 1 / (index + 1)
        row["emotion"] = {
            "label": "joy" if joy >= 0.5 else "no emotion",
            "confidence": max(joy, 1 - joy),
            "probabilities": {"joy": joy, "no emotion": 1 - joy},
        }
        row |= {"degraded": ["language", "demonstrations"][:index], "truncated": index == 2}
    return line


def written(output: Output, *dialogues: Dialogue, refused: str | None = None) -> str:
    file = io.StringIO()
    out = writer(output, file, LABELS)
    if refused is not None:
        out.refuse(refused)
    for dialogue in dialogues:
        out.add(scored(dialogue))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("out.jsonl", Output.JSONL),
        ("out.CSV", Output.CSV),
        ("out.vtt", Output.WEBVTT),
        ("out", Output.JSONL),
    ],
)
def test_the_name_tells_the_format(name: str, output: Output) -> None:
    assert output_of(Path(name)) is output


def test_lines_have_everything_and_errors_in_their_places() -> None:
    first, second = written(Output.JSONL, TALK, refused="in.csv:7: no").splitlines()

    assert json.loads(first) == {"error": "in.csv:7: no"}
    assert json.loads(second) == scored(TALK)


def test_table_has_an_utterance_a_row_and_a_probability_a_column() -> None:
    rows = [*csv.DictReader(io.StringIO(written(Output.CSV, TALK, refused="in.csv:7: no")))]

    assert rows[0] == {
        **{"dialogue": "call/1", "index": "0", "id": "u1", "speaker": "Mia", "role": "agent"},
        **{"start": "0.5", "end": "1.5", "text": "Hello?", "label": "", "emotion": "joy"},
        **{"confidence": "1.0", "degraded": "", "truncated": "false"},
        **{"p_joy": "1.0", "p_no emotion": "0.0"},
    }
    assert [row["text"] for row in rows] == [utterance.text for utterance in TALK.utterances]
    assert rows[1]["label"] == "joy"
    assert rows[2]["degraded"] == "language demonstrations"
    assert rows[2]["truncated"] == "true"


def test_table_without_utterances_has_its_header() -> None:
    assert written(Output.CSV).splitlines() == [
        "dialogue,index,id,speaker,role,start,end,text,label,emotion,confidence,degraded,truncated,"
        "p_joy,p_no emotion"
    ]


def test_scored_table_can_be_scored_again(tmp_path: Path) -> None:
    """Nothing of an utterance is lost but what a person said of it."""
    path = tmp_path / "scored.csv"
    path.write_text(written(Output.CSV, TALK, Dialogue("call/2", TALK.utterances[:1])))

    first, second = read_dialogues(path)

    assert [
        (each.speaker, each.text, each.start, each.role, each.id) for each in first.utterances
    ] == [(each.speaker, each.text, each.start, each.role, each.id) for each in TALK.utterances]
    assert second.utterances == TALK.utterances[:1]


def test_cues_have_voices_and_emotions_as_classes() -> None:
    """A cue without an end lasts until the next, or three seconds."""
    assert written(Output.WEBVTT, TALK, refused="in.srt:7: no") == (
        "WEBVTT\n"
        "\n1\n00:00:00.500 --> 00:00:01.500\n<v Mia><c.joy>Hello?</c></v>\n"
        "\n2\n01:01:01.000 --> 01:01:02.250\n"
        "<v Jo &amp; Bo><c.joy>a &lt;3 b --&gt; c, “so”</c></v>\n"
        "\n3\n01:01:02.250 --> 01:01:05.250\n<v Mia><c.no-emotion>Well.</c></v>\n"
    )


def test_cue_that_ends_before_it_begins_has_no_end() -> None:
    talk = Dialogue("d", (Utterance("A", "x", start=2.0, end=1.0),))

    assert "00:00:02.000 --> 00:00:05.000" in written(Output.WEBVTT, talk)


def test_cues_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "call.vtt"
    path.write_text(written(Output.WEBVTT, TALK))

    (dialogue,) = read_dialogues(path)

    assert [(each.speaker, each.start) for each in dialogue.utterances] == [
        ("Mia", 0.5),
        ("Jo & Bo", 3661.0),
        ("Mia", 3662.25),
    ]
    assert dialogue.utterances[1].text == "a <3 b --> c, “so”"


def test_cues_are_in_the_order_of_their_times() -> None:
    late, early = TALK.utterances[2], TALK.utterances[0]

    out = written(Output.WEBVTT, Dialogue("d", (late, early)))
    assert out.index("Hello?") < out.index("Well.")


NAMES = st.text(max_size=30).filter(lambda text: fault_of_name(text) is None)
TEXTS = st.text(max_size=30).filter(lambda text: fault_of_text(text) is None)
TALKS = st.lists(st.tuples(NAMES, TEXTS), min_size=1, max_size=4)


@given(TALKS)
def test_what_a_table_says_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[str, str]]
) -> None:
    """But for space around it, whatever delimiters, quotes and line breaks are in it."""
    path = tmp_path_factory.mktemp("scored") / "scored.csv"
    talk = Dialogue("d", tuple(Utterance(*turn) for turn in turns))
    with written_whole(path) as file:
        writer(Output.CSV, file, LABELS).add(scored(talk))

    (dialogue,) = read_dialogues(path)

    assert [(each.speaker, each.text) for each in dialogue.utterances] == [
        (speaker.strip(), text.strip()) for speaker, text in turns
    ]


@given(TALKS)
def test_what_cues_say_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[str, str]]
) -> None:
    """But for the kind of space, whatever markup is in it; positions of SubRip are no text."""
    assume(not any("{\\" in part for turn in turns for part in turn))
    path = tmp_path_factory.mktemp("scored") / "scored.vtt"
    talk = Dialogue("d", tuple(Utterance(*turn, start=n) for n, turn in enumerate(turns)))
    with written_whole(path) as file:
        writer(Output.WEBVTT, file, LABELS).add(scored(talk))

    (dialogue,) = read_dialogues(path)

    assert [(each.speaker, each.text) for each in dialogue.utterances] == [
        (" ".join(speaker.split()), " ".join(text.split())) for speaker, text in turns
    ]


def test_subtitles_hold_one_dialogue_with_times() -> None:
    check_output(Output.WEBVTT, TALK, before=0)
    with pytest.raises(OutputMismatch, match=r"one dialogue, and 'call/1' is another; .*--to csv"):
        check_output(Output.WEBVTT, TALK, before=1)
    with pytest.raises(OutputMismatch, match=r"utterance 1 of 'd' has no start; .*--to csv"):
        check_output(
            Output.WEBVTT, Dialogue("d", (TALK.utterances[0], Utterance("A", "x"))), before=0
        )


@pytest.mark.parametrize("output", [Output.JSONL, Output.CSV])
def test_other_formats_hold_every_dialogue(output: Output) -> None:
    check_output(output, Dialogue("d", (Utterance("A", "x"),)), before=7)
