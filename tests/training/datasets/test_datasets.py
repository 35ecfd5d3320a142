"""Corpus files as their authors publish them, and what is said of those that are broken."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from training.datasets.errors import DatasetError
from training.datasets.reading import Corpus, read_corpus

MELD = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode\n"
    "1,Is the ferry late?,Ann,neutral,neutral,0,0,1,1\n"
    '2,"No, it\u2019s ""early"", look!",Bo,surprise,positive,0,1,1,1\n'
    "3,I lost my hat.,Ann,Sadness,negative,0,4,1,1\n"
    "4,Hurrah!,Cy,joy,positive,7,0,1,2\n"
)
EMORYNLP = (
    "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode\n"
    "The stairs creak.,['Ida Moor'],Scared,3,1,1,2\n"
    "\"Be quiet!\",\"['Jo Reed', 'Ida Moor']\",Mad,3,4,1,2\n"
    "I feel calm here.,['Gus O\\'Hara'],Peaceful,4,1,1,2\n"
    "We won!,['Hal'],Powerful,4,1,2,2\n"
)
GOEMOTIONS = "What a goal!\t13\tc1\nI am so sorry, and sad.\t24,25\tc2\nFine.\t27\tc3\n  \t27\tc4\n"
JSONL = (
    '{"id": "d1", "utterances": [{"id": "u1", "speaker": "Ann", "text": "Hurrah!", '
    '"label": "JOY"}, {"speaker": "Bo", "text": "Hm."}]}\n'
    '{"id": "d2", "utterances": []}\n'
)

# As a corpus has it that went through Latin-1 and came back, but for one apostrophe.
BROKEN = "It\u0092s \u0093late\u0094\u0085 it’s\u0097"

# GoEmotions' 28 labels in the order of their numbers, and what `ekman_mapping.json` groups them as,
# in MELD's words.
EKMAN = [
    "joy", "joy", "anger", "anger", "joy", "joy", "surprise", "surprise", "joy", "sadness",
    "anger", "disgust", "sadness", "joy", "fear", "joy", "sadness", "joy", "joy", "fear",
    "joy", "joy", "surprise", "joy", "sadness", "sadness", "surprise", "neutral",
]  # fmt: skip


def read(
    kind: str,
    text: str | bytes,
    tmp_path: Path,
    spaces: Mapping[str, LabelSpace],
    label_space: str | None = None,
) -> Corpus:
    """A file with this text, read."""
    path = tmp_path / "small.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_corpus(kind, path, spaces, label_space)


def test_meld_is_read_by_dialogue(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """In the file's order, holes in the numbering closed; ids name file, dialogue and clip."""
    corpus = read("meld", MELD, tmp_path, spaces)

    assert corpus.label_space.name == "meld"
    assert corpus.dialogues == (
        Dialogue(
            "small/0",
            (
                Utterance("Ann", "Is the ferry late?", "neutral", id="dia0_utt0"),
                Utterance("Bo", 'No, it’s "early", look!', "surprise", id="dia0_utt1"),
                Utterance("Ann", "I lost my hat.", "sadness", id="dia0_utt4"),
            ),
        ),
        Dialogue("small/7", (Utterance("Cy", "Hurrah!", "joy", id="dia7_utt0"),)),
    )


def test_emorynlp_is_read_by_scene(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """A scene is a season's, an episode's; several who speak at once are one speaker.

    Ids are the original release's, so that what is said of both can be joined.
    """
    corpus = read("emorynlp", EMORYNLP, tmp_path, spaces)

    assert corpus.label_space.name == "emorynlp"
    assert corpus.dialogues == (
        Dialogue(
            "small/1_2_3",
            (
                Utterance("Ida Moor", "The stairs creak.", "scared", id="s01_e02_c03_u001"),
                Utterance("Jo Reed & Ida Moor", "Be quiet!", "mad", id="s01_e02_c03_u004"),
            ),
        ),
        Dialogue(
            "small/1_2_4",
            (Utterance("Gus O'Hara", "I feel calm here.", "peaceful", id="s01_e02_c04_u001"),),
        ),
        Dialogue("small/2_2_4", (Utterance("Hal", "We won!", "powerful", id="s02_e02_c04_u001"),)),
    )


def test_goemotions_is_read_by_comment(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """Those with several labels have no single answer; those without text ask nothing."""
    corpus = read("goemotions", GOEMOTIONS, tmp_path, spaces)

    assert corpus.label_space.name == "meld"
    assert corpus.dialogues == (
        Dialogue("c1", (Utterance("0", "What a goal!", "joy", id="c1"),)),
        Dialogue("c3", (Utterance("0", "Fine.", "neutral", id="c3"),)),
    )


def test_goemotions_are_grouped_as_their_authors_do(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    text = "".join(f"Comment.\t{number}\tc{number}\n" for number in range(28))

    corpus = read("goemotions", text, tmp_path, spaces)

    assert [dialogue.utterances[0].label for dialogue in corpus.dialogues] == EKMAN


def test_jsonl_is_read_in_the_label_space_that_is_named(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Labels may be missing, and utterances' ids; ids are the file's.

    A label is spelt as the label space spells it, or it would count as another one wherever labels
    are compared.
    """
    corpus = read("jsonl", JSONL, tmp_path, spaces, "meld")

    assert corpus.label_space.name == "meld"
    assert [dialogue.id for dialogue in corpus.dialogues] == ["d1", "d2"]
    assert [u.label for u in corpus.dialogues[0].utterances] == ["joy", None]
    assert [u.id for u in corpus.dialogues[0].utterances] == ["u1", None]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("meld", MELD.replace("Is the ferry late?", BROKEN)),
        ("emorynlp", EMORYNLP.replace("The stairs creak.", BROKEN)),
        ("goemotions", f"{BROKEN}\t27\tc1\n"),
    ],
)
def test_punctuation_that_became_control_characters_is_mended(
    kind: str, text: str, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Windows-1252 read as Latin-1; what was right in the same file stays. One is a line break."""
    corpus = read(kind, text, tmp_path, spaces)

    assert corpus.dialogues[0].utterances[0].text == "It’s “late”… it’s—"


def test_control_characters_that_were_no_punctuation_stay(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Windows-1252 has nothing at these places."""
    text = MELD.replace("Hurrah!", "a\u0081\u008d\u008f\u0090\u009db")

    corpus = read("meld", text, tmp_path, spaces)

    assert corpus.dialogues[1].utterances[0].text == "a\u0081\u008d\u008f\u0090\u009db"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.rstrip("\n").encode(),
    ],
    ids=["byte-order-mark", "windows-line-ends", "no-last-line-end"],
)
@pytest.mark.parametrize(
    ("kind", "text"), [("meld", MELD), ("emorynlp", EMORYNLP), ("goemotions", GOEMOTIONS)]
)
def test_how_an_editor_saved_a_file_does_not_matter(
    kind: str, text: str, change: object, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    assert callable(change)

    assert read(kind, change(text), tmp_path, spaces) == read(kind, text, tmp_path, spaces)


@pytest.mark.parametrize(
    ("kind", "changed", "to", "message"),
    [
        ("meld", "Emotion,", "Emotions,", "1: missing column Emotion"),
        ("meld", "Sr No.,Utterance,Speaker", "a,b,c", "1: missing column Utterance, Speaker"),
        ("meld", "Sadness", "bored", "4: Emotion: 'bored' is not a label of meld"),
        ("meld", ",Ann,Sadness,negative,0,4,1,1", ",Ann,joy", "4: no value for Dialogue_ID, Utter"),
        ("meld", "I lost my hat.", "  ", "4: Utterance is empty"),
        ("meld", "Cy", "", "5: Speaker is empty"),
        ("meld", "positive,7,", "positive,seven,", "5: Dialogue_ID is 'seven', not a whole number"),
        ("meld", "neutral,0,0", "neutral,0,a", "2: Utterance_ID is 'a', not a whole number"),
        ("meld", '"No,', '"No"', "3: "),
        ("emorynlp", "Season", "Series", "1: missing column Season"),
        ("emorynlp", "Mad", "Angry", "3: Emotion: 'Angry' is not a label of emorynlp"),
        ("emorynlp", "Powerful,4,1,2,2", "Powerful,4", "5: no value for"),
        ("emorynlp", "Mad,3,4", "Mad,3,d", "3: Utterance_ID is 'd', not a whole number"),
        ("emorynlp", "['Hal']", "Hal", "5: Speaker is 'Hal', not a list of names"),
        ("emorynlp", "['Hal']", "['Hal'", "5: Speaker is .* not a list of names"),
        ("emorynlp", "['Hal']", "[]", "5: Speaker is .* not a list of names"),
        ("emorynlp", "['Hal']", "[3]", "5: Speaker is .* not a list of names"),
        ("emorynlp", "['Hal']", "{[]: 'Hal'}", "5: Speaker is .* not a list of names"),
        ("emorynlp", "['Hal']", '"(""Hal"",)"', "5: Speaker is .* not a list of names"),
        ("goemotions", "\tc2", "", "2: 2 fields, not 3"),
        ("goemotions", "Fine.\t27", "Fine.\t28", "3: labels are '28', not 0 to 27"),
        ("goemotions", "Fine.\t27", "Fine.\t-1", "3: labels are '-1', not 0 to 27"),
        ("goemotions", "Fine.\t27", "Fine.\t", "3: labels are '', not 0 to 27"),
        ("goemotions", "24,25", "24,joy", "2: labels are '24,joy', not 0 to 27"),
    ],
)  # fmt: skip
def test_error_names_file_and_line(
    kind: str,
    changed: str,
    to: str,
    message: str,
    tmp_path: Path,
    spaces: Mapping[str, LabelSpace],
) -> None:
    text = {"meld": MELD, "emorynlp": EMORYNLP, "goemotions": GOEMOTIONS}[kind]
    assert changed in text

    with pytest.raises(DatasetError, match=rf"small\.csv:{message}"):
        read(kind, text.replace(changed, to, 1), tmp_path, spaces)


def test_error_names_the_line_that_a_record_begins_on(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Texts may go over several lines."""
    text = MELD.replace("Is the ferry late?", '"Is\nthe\nferry late?"').replace("joy", "glee")

    with pytest.raises(DatasetError, match=r"small\.csv:7: Emotion: 'glee'"):
        read("meld", text, tmp_path, spaces)


@pytest.mark.parametrize("kind", ["meld", "emorynlp", "goemotions"])
def test_file_that_is_not_utf_8_is_refused_with_its_line(
    kind: str, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Far into the file, where readers have long begun to decode."""
    text = {"meld": MELD, "emorynlp": EMORYNLP, "goemotions": GOEMOTIONS}[kind]
    header, _, rest = text.partition("\n")
    many = header + "\n" + rest.splitlines()[0] + "\n"
    filler = (rest.splitlines()[0] + "\n") * 2000

    with pytest.raises(DatasetError, match=r"small\.csv:2003: not UTF-8: invalid"):
        read(kind, (many + filler).encode() + b"caf\xe9\n", tmp_path, spaces)


@pytest.mark.parametrize("kind", ["meld", "emorynlp", "goemotions", "jsonl"])
def test_missing_file_is_named(kind: str, tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    with pytest.raises(DatasetError, match=r"none\.csv: No such file"):
        read_corpus(kind, tmp_path / "none.csv", spaces, "meld")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "d3"', r"small\.csv:3: not JSON"),
        ('{"id": "d3"}', r"small\.csv:3: utterances is missing"),
        ('{"id": "d1", "utterances": []}', r"small\.csv:3: id 'd1' is also on line 1"),
        (
            '{"id": "d3", "utterances": [{"speaker": "A", "text": "x", "label": "bored"}]}',
            r"small\.csv:3: dialogue 'd3', utterances\[0\]\.label: 'bored' is not a label of meld",
        ),
    ],
)
def test_jsonl_error_names_file_and_line(
    line: str, message: str, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    with pytest.raises(DatasetError, match=message):
        read("jsonl", JSONL + line + "\n", tmp_path, spaces, "meld")


@pytest.mark.parametrize(
    ("label_space", "message"),
    [(None, "needs a label space: one of"), ("moods", "unknown label space 'moods'; known are")],
)
def test_jsonl_without_a_known_label_space_is_refused(
    label_space: str | None, message: str, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Its labels could be anything."""
    with pytest.raises(DatasetError, match=f"{message} dailydialog, emorynlp, iemocap, meld"):
        read("jsonl", JSONL, tmp_path, spaces, label_space)


@pytest.mark.parametrize(
    ("kind", "text"), [("meld", MELD.splitlines()[0]), ("emorynlp", EMORYNLP.splitlines()[0]),
                       ("goemotions", "  \t27\tc4\n"), ("jsonl", "\n")]
)  # fmt: skip
def test_corpus_without_a_dialogue_is_refused(
    kind: str, text: str, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Training on nothing would succeed."""
    with pytest.raises(DatasetError, match=r"small\.csv: contains no dialogue"):
        read(kind, text, tmp_path, spaces, "meld")


def test_unknown_format_is_refused(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """The error lists those there are."""
    with pytest.raises(
        DatasetError,
        match="'csv'; known are meld, emorynlp, goemotions, iemocap, dailydialog, jsonl",
    ):
        read("csv", MELD, tmp_path, spaces)
