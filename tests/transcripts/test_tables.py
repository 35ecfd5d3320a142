"""Tables are read as dialogues, an utterance a row, whatever the columns are called."""

from itertools import chain, count, islice

import pytest

from service.conversation.dialogue import Dialogue
from service.dialogue_files import DialogueFormatError, Reading
from service.transcripts.segments import TranscriptError
from service.transcripts.tables import Columns, Row, table
from tests.transcripts.reading import parts, spoken, utterances


def test_columns_are_found_by_name() -> None:
    """A row without text is nothing that was said, and a blank line nothing at all."""
    assert parts("csv/calls.csv") == [
        Dialogue(
            "c-1",
            (
                spoken("Mia", "Garden Supplies, Mia speaking.", 0.0, 2.3, "agent"),
                spoken("Jo", 'The roses arrived "dead", again!', 2.75, 6.0, "customer"),
            ),
        ),
        Dialogue(
            "c-2",
            (
                spoken("Mia", "Hello?", 0.0, 1.5, "agent"),
                spoken("Bo", "Wrong number. Sorry!", 1.6, 3.0, "customer"),
            ),
        ),
    ]


def test_semicolons_and_decimal_commas_are_read() -> None:
    """As Excel writes them in many countries; a column of another name is not."""
    assert utterances("csv/semicolons.csv") == (
        spoken("Zoë", "Der Zug ist weg, schon wieder", 0.5),
        spoken("Bo", "Nein!", 2.5),
    )


def test_tabs_and_times_on_the_clock_are_read() -> None:
    assert utterances("csv/tabs.tsv") == (
        spoken("Ida", "Is it on?", 1.0),
        spoken("Jo", "It is.", 3723.5),
    )


def test_whisper_counts_milliseconds_in_tables() -> None:
    assert utterances("whisperx/whisper.tsv") == (
        spoken("unknown", "The lamp is broken.", 0.0, 2.32),
        spoken("unknown", "I can mend it.", 2.32, 4.0),
    )


def test_dates_become_seconds_of_their_dialogue() -> None:
    """A text may have several lines, and a message keeps its id."""
    first, second = parts("csv/dates.csv")

    assert first == Dialogue(
        "a",
        (
            spoken("Ida", "Two lines:\nthe second.", 0.0, id="m1"),
            spoken("Jo", "Fine.", 12.25, id="m2"),
        ),
    )
    assert isinstance(second, Dialogue)
    assert [utterance.start for utterance in second.utterances] == [0.0, 60.0]


def test_broken_date_spoils_no_row_but_its_own() -> None:
    """A dialogue begins with the first of its dates that is one."""
    rows = [
        "speaker,text,time\n",
        "Ida,One.,2026-13-01T10:00:00Z\n",
        "Jo,Two.,2026-01-01T10:00:00Z\n",
        "Jo,Three.,2026-01-01T10:00:30Z\n",
    ]

    broken, *read = table(rows, Columns())

    assert isinstance(broken, TranscriptError)
    assert broken.line == 2
    assert [row.segment.start for row in read if isinstance(row, Row)] == [0.0, 30.0]


@pytest.mark.parametrize("lines", [[], ["\n", " \n"]])
def test_table_without_a_header_is_refused(lines: list[str]) -> None:
    with pytest.raises(TranscriptError, match="a table begins with the names of its columns"):
        list(table(lines, Columns()))


def test_columns_of_other_names_are_named() -> None:
    """A column that is named for one purpose is not read for another."""
    columns = Columns(speaker="Who", text="What", dialogue="id", time="When")

    assert parts("csv/other-names.csv", Reading(columns=columns)) == [
        Dialogue("x", (spoken("Ida", "We won!", 3.0), spoken("Jo", "At last!", 5.0)))
    ]


def test_invalid_row_is_named_by_its_line_and_the_others_are_read() -> None:
    *errors, dialogue = parts("csv/broken-rows.csv")

    assert errors == [
        "3: has 4 columns, and the header 3; quote a text that contains the delimiter",
        "4: column 'start': 'soon' is not a time; write seconds, such as 12.5, 1:02:03.5 or a "
        "date, such as 2026-01-02T10:00:00Z",
        "5: not CSV: ',' expected after '\"'",
    ]
    assert dialogue == Dialogue(
        "broken-rows", (spoken("Ida", "One.", 1.0), spoken("Ida", "Five.", 5))
    )


def test_row_that_is_not_utf_8_is_named() -> None:
    error, dialogue = parts("csv/latin-1.csv")

    assert error == "3: not UTF-8; save the table as UTF-8"
    assert dialogue == Dialogue("latin-1", (spoken("Ida", "Hello."), spoken("Ida", "Yes.")))


def test_table_without_texts_is_refused_with_its_columns() -> None:
    expected = r"no-text\.csv:1: no column of texts among when, who, what; name it with --text"
    with pytest.raises(DialogueFormatError, match=expected):
        parts("csv/no-text.csv")


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (Columns(text="words"), "no column 'words'; there are speaker, text, text"),
        (Columns(text="text"), "two columns 'text'; there are"),
    ],
)
def test_named_column_is_there_once(columns: Columns, problem: str) -> None:
    with pytest.raises(TranscriptError, match=problem):
        list(table(["speaker,text,text\n"], columns))


def test_rows_of_a_dialogue_follow_one_another() -> None:
    """A table is read once, without holding it in memory."""
    assert parts("csv/unsorted.csv")[:2] == [
        Dialogue("a", (spoken("Ida", "One."),)),
        Dialogue("b", (spoken("Jo", "Two."),)),
    ]
    assert parts("csv/unsorted.csv")[2:] == ["4: id 'a' is also on line 2"]


def test_ids_of_a_dialogue_differ() -> None:
    """They do not where they are the dialogue's, and the remedy is told."""
    (error,) = parts("csv/other-names.csv", Reading(columns=Columns("Who", "What")))

    assert error == (
        "2: two utterances of dialogue 'other-names' have the id 'x'; "
        "if it is the dialogue's, name its column with --dialogue"
    )


def test_quote_that_does_not_end_costs_no_more_than_a_field() -> None:
    """The field has a bound, after which reading goes on."""
    lines = ["text\n", '"' + "x" * 200_000 + "\n", "Hello.\n"]

    error, row = table(lines, Columns())

    assert str(error) == "not CSV: field larger than field limit (131072)"
    assert isinstance(row, Row)
    assert row.segment.text == "Hello."


def test_row_without_a_dialogue_is_named() -> None:
    (error,) = table(["call,text\n", ",Hello.\n"], Columns())

    assert str(error) == "column 'call' is empty; it names the row's dialogue"


def test_dialogue_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of many dialogues has none, and one that is too long costs no other."""
    monkeypatch.setattr("service.dialogue_files.MOST_SEGMENTS", 1)

    first, second = parts("csv/calls.csv")

    remedy = "a dialogue of more than 1 rows; name the column that tells dialogues apart with"
    assert (first, second) == (f"2: {remedy} --dialogue", f"5: {remedy} --dialogue")
    assert isinstance(parts("csv/unsorted.csv")[1], Dialogue)


def test_long_table_is_read_as_it_comes() -> None:
    """One that never ends, too."""
    rows = table(chain(["call,text\n"], (f"{n},Hello.\n" for n in count())), Columns())

    assert [row.dialogue for row in islice(rows, 3) if isinstance(row, Row)] == ["0", "1", "2"]
