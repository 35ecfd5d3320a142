"""What holds of every corpus, whichever reader gives it, and what is said where it does not."""

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import pytest

from service.conversation.labels import LabelSpace
from training.datasets import pickles
from training.datasets.errors import DatasetError
from training.datasets.reading import look, read_corpus

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
MELD = [
    "1,Is the flat ours?,Ann,neutral,neutral,0,0\n",
    '2,"No way, they gave it to us?",Bob,surprise,positive,0,1\n',
    "3,I am so happy.,Ann,joy,positive,0,3\n",
    "4,Who parks like that?,Cem,anger,negative,1,0\n",
    "5,It is only a car.,Dee,neutral,neutral,1,1\n",
    "6,I miss the old house.,Ann,sadness,negative,12,0\n",
]
EMORY_HEADER = "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode\n"
EMORY = [
    "The stairs creak.,['Ida'],Scared,3,1,1,2\n",
    "Be quiet!,['Jo'],Mad,3,4,1,2\n",
    "I feel calm here.,['Gus'],Peaceful,4,1,1,2\n",
    "We won!,['Hal'],Powerful,4,2,1,2\n",
]
SCENE = "s01_e01_c01"
TALK = {"id": "d1", "utterances": [{"id": "u1", "speaker": "Ann", "text": "Hm.", "label": "joy"}]}

Spaces = Mapping[str, LabelSpace]


@pytest.fixture
def said_of(tmp_path: Path, spaces: Spaces) -> Callable[[str, str], list[str]]:
    """What is wrong with a file of this format and text, behind its name."""

    def messages_of(kind: str, text: str) -> list[str]:
        path = tmp_path / ("small.json" if text.startswith('{\n"episodes"') else "small.csv")
        path.write_bytes(text.encode())
        space = spaces["emorynlp" if kind == "emorynlp" else "meld"]
        faults = look(kind, path, space).faults
        return [str(fault).removeprefix(f"{path}:") for fault in faults]

    return messages_of


def release(*scenes: tuple[str, list[str]]) -> str:
    """EmoryNLP's JSON, an id a line: scenes with the ids of their utterances."""
    results = [
        {
            "scene_id": scene,
            "utterances": [
                {"utterance_id": name, "speakers": ["Ann"], "transcript": name, "emotion": "Mad"}
                for name in names
            ],
        }
        for scene, names in scenes
    ]
    return "{\n" + json.dumps({"episodes": [{"episode_id": "e", "scenes": results}]}, indent=0)[2:]


@pytest.mark.parametrize(
    ("kind", "header", "rows"), [("meld", HEADER, MELD), ("emorynlp", EMORY_HEADER, EMORY)]
)
def test_rows_belong_together_by_their_ids_wherever_they_stand(
    kind: str, header: str, rows: list[str], tmp_path: Path, spaces: Spaces
) -> None:
    """A dialogue's history is what was said before, not what stands before in a shuffled file."""
    for name in ("clean", "shuffled"):
        (tmp_path / name).mkdir()
    (tmp_path / "clean" / "small.csv").write_text(header + "".join(rows))
    clean = read_corpus(kind, tmp_path / "clean" / "small.csv", spaces).dialogues
    for seed in range(20):
        mixed = Random(seed).sample(rows, len(rows))
        (tmp_path / "shuffled" / "small.csv").write_text(header + "".join(mixed))

        dialogues = read_corpus(kind, tmp_path / "shuffled" / "small.csv", spaces).dialogues

        assert sorted(dialogues, key=lambda d: d.id) == sorted(clean, key=lambda d: d.id)


def test_that_rows_were_put_together_is_logged(
    tmp_path: Path, spaces: Spaces, caplog: pytest.LogCaptureFixture
) -> None:
    """A file in order says nothing, whatever numbers are missing in it."""
    path = tmp_path / "small.csv"
    with caplog.at_level("INFO"):
        path.write_text(HEADER + "".join(MELD))
        read_corpus("meld", path, spaces)
        assert not caplog.messages
        path.write_text(HEADER + "".join([MELD[1], MELD[0], MELD[3], MELD[2], *MELD[4:]]))
        read_corpus("meld", path, spaces)

    assert "the rows of 2 dialogues are separated or out of order" in caplog.messages[0]


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("meld", HEADER + "".join([*MELD[:3], MELD[1], MELD[2]]), [
            "5: utterance 'dia0_utt1' is also on line 3",
            "6: utterance 'dia0_utt3' is also on line 4",
        ]),
        ("meld", HEADER + MELD[0] + "1,Another film.,Eli,anger,neutral,00,0\n", [
            "3: utterance 'dia0_utt0' is also on line 2",
        ]),
        ("meld", HEADER + "".join(MELD) + HEADER + "".join(MELD[:1]), [
            "8: the header again, as in joined files; remove this line",
            "9: utterance 'dia0_utt0' is also on line 2",
        ]),
        ("emorynlp", EMORY_HEADER + "".join([*EMORY, EMORY[1]]), [
            "6: utterance 's01_e02_c03_u004' is also on line 3",
        ]),
        ("emorynlp", release((SCENE, [f"{SCENE}_u001", f"{SCENE}_u001"])), [
            f"18: {SCENE}_u001: utterance '{SCENE}_u001' is also on line 10",
        ]),
        ("emorynlp", release((SCENE, [f"{SCENE}_u001"]), ("s2", [f"{SCENE}_u001"])), [
            f"23: {SCENE}_u001: utterance '{SCENE}_u001' is also on line 10",
        ]),
        ("emorynlp", release((SCENE, ["a"]), (SCENE, ["b"])), [
            f"20: {SCENE}: id 'small/{SCENE}' is also on line 7",
        ]),
        ("goemotions", "Hm.\t27\tc1\nFine.\t27\tc2\nHm.\t27\tc1\n", [
            "3: id 'c1' is also on line 1",
        ]),
        ("jsonl", f"{json.dumps(TALK)}\n\n{json.dumps(TALK)}\n", ["3: id 'd1' is also on line 1"]),
    ],
    ids=["rows", "one number in two spellings", "a second header", "emorynlp", "json", "two scenes",
         "scene", "goemotions", "jsonl"],
)  # fmt: skip
def test_id_that_comes_twice_is_refused_with_both_lines(
    kind: str, text: str, message: list[str], said_of: Callable[[str, str], list[str]]
) -> None:
    """An utterance would train and be scored twice, or two dialogues be read as one."""
    remedy = "; keep one of them, or give them different ids"

    messages = said_of(kind, text)

    assert [each.removesuffix(remedy) for each in messages] == message


def test_utterances_of_two_dialogues_may_have_the_same_ids_in_jsonl(
    said_of: Callable[[str, str], list[str]],
) -> None:
    """There an id is its dialogue's."""
    assert said_of("jsonl", f"{json.dumps(TALK)}\n{json.dumps(TALK | {'id': 'd2'})}\n") == []


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([["a", "a"], ["b"], []], r"ids of train\[1\]: id 'a' is also ids of train\[0\]"),
        ([["a"], ["b"], ["a"]], r"ids of dev\[0\]: id 'a' is also ids of train\[0\]"),
    ],
)
def test_dialogue_of_a_pickle_that_is_held_out_twice_is_refused(
    splits: list[list[str]], message: str, tmp_path: Path, spaces: Spaces
) -> None:
    """One that trains, too, would be scored on what is known of it."""
    parts = [{"a": ["F"], "b": ["M"]}, {"a": [2], "b": [0]}, {"a": ["Late."], "b": ["Hm."]}]
    path = tmp_path / "shared.pkl"
    path.write_bytes(pickle.dumps([*parts, *splits]))

    with pytest.raises(DatasetError, match=message):
        pickles.read(path, spaces["iemocap"])


def test_emorynlp_utterances_follow_each_other_by_their_numbers(
    tmp_path: Path, spaces: Spaces
) -> None:
    """In JSON as in CSV; where one has no number, they stand as in the file."""
    path = tmp_path / "small.json"
    for names, message in (
        (["x_u010", "x_u002", "x_u001"], ["x_u001", "x_u002", "x_u010"]),
        (["x_u010", "x_u002", "y"], ["x_u010", "x_u002", "y"]),
    ):
        path.write_text(release((SCENE, names)))

        (dialogue,) = read_corpus("emorynlp", path, spaces).dialogues

        assert [utterance.id for utterance in dialogue.utterances] == message


def test_every_fault_is_found_in_the_order_of_lines(
    said_of: Callable[[str, str], list[str]],
) -> None:
    """A text over several lines, and empty lines, count as editors count them."""
    text = HEADER + "".join(
        [
            '1,"Is the\r\nflat\nours?",Ann,neutral,neutral,0,0\n',
            "\n",
            "2,No way!,Bob,bored,positive,0,1\n",
            "3,I am so happy.,Ann,joy,positive,0.0,3\n",
            "4,Who parks like that, hm?,Cem,anger,negative,1,0\n",
            '5,"It is" only a car.,Dee,neutral,neutral,1,1\n',
            "6,,Ann,sadness,negative,12,0\n",
            "7,Oh,Ann,sadness,negative,12\n",
            "8,Oh,Ann,sadness,negative,12,-1\n",
            "9,Oh,Ann,sadness,negative,0,0\n",
            f"10,Oh,Ann,sadness,negative,{'9' * 5000},0\n",
        ]
    )

    messages = said_of("meld", text)

    assert [each.partition(": ")[0] for each in messages] == [*map(str, range(6, 15))]
    for each, message in zip(
        messages,
        [
            "Emotion: 'bored' is not a label of meld",
            "Dialogue_ID is '0.0', not a whole number",
            "8 values for 7 columns; a text with a comma needs quotes",
            "',' expected after '\"'",
            "Utterance is empty",
            "no value for Utterance_ID",
            "Utterance_ID is '-1', not a whole number",
            "utterance 'dia0_utt0' is also on line 2",
            "Dialogue_ID is '99999",
        ],
        strict=True,
    ):
        assert message in each
        assert len(each) < 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "small.csv: is empty"),
        ("\n\n", "small.csv: is empty"),
        (HEADER, "small.csv: contains no dialogue"),
        (HEADER.replace(",", "\t"), "1: missing column .*separated by commas, not tabs"),
        (HEADER.replace(",", ";"), "1: missing column .*separated by commas, not semicolons"),
        (HEADER.replace("Sentiment", "Emotion"), "1: column Emotion appears twice"),
        (HEADER.replace("Dialogue_ID", "dialogue"), "1: missing column Dialogue_ID$"),
    ],
)
def test_file_that_is_no_such_table_is_refused(
    text: str, message: str, tmp_path: Path, spaces: Spaces
) -> None:
    """With what is missing and what was found for it."""
    path = tmp_path / "small.csv"
    path.write_text(text)

    with pytest.raises(DatasetError, match=message):
        read_corpus("meld", path, spaces)


def test_numbers_of_any_size_are_numbers(tmp_path: Path, spaces: Spaces) -> None:
    """They tell dialogues apart, and order utterances, past what 64 bits hold."""
    path = tmp_path / "small.csv"
    rows = [f"1,Oh {n}.,Ann,joy,positive,{2**63},{n}\n" for n in (2**64 + 1, 2**64, 7)]
    path.write_text(HEADER + "".join(rows))

    (dialogue,) = read_corpus("meld", path, spaces).dialogues

    assert dialogue.id == f"small/{2**63}"
    assert [u.text for u in dialogue.utterances] == [f"Oh {n}." for n in (7, 2**64, 2**64 + 1)]


@pytest.mark.parametrize(
    ("utterance", "message"),
    [
        ({"text": " "}, "1: utterances[0].text must not be blank"),
        ({"label": "Joy?"}, "1: dialogue 'd1', utterances[0].label: 'Joy?' is not a label of meld"),
        ({"text": 3}, "1: utterances[0].text must be a string"),
    ],
)
def test_utterance_that_cannot_be_asked_is_refused_with_its_line(
    utterance: dict[str, object], message: str, said_of: Callable[[str, str], list[str]]
) -> None:
    talk = {"id": "d1", "utterances": [{"speaker": "Ann", "text": "Hm."} | utterance]}

    (message,) = said_of("jsonl", json.dumps(talk))

    assert message.startswith(message)


def test_half_of_a_surrogate_pair_is_refused(said_of: Callable[[str, str], list[str]]) -> None:
    """JSON can spell it, and no file that a command writes can hold it."""
    text = release((SCENE, [f"{SCENE}_u001"])).replace('transcript": "', 'transcript": "\\ud83d')

    (message,) = said_of("emorynlp", text)

    assert message == f"10: {SCENE}_u001: text: must not contain lone surrogates"


def test_every_line_that_is_no_dialogue_is_found(
    said_of: Callable[[str, str], list[str]],
) -> None:
    """Those behind a broken line, too; an item of an array by its number."""
    messages = said_of("jsonl", f'{json.dumps(TALK)}\n{{"id"\n7\n{json.dumps(TALK)}\n')

    assert [each[:9] for each in messages] == ["2: not JS", "3: a dial", "4: id 'd1"]

    (found_in_array,) = said_of("jsonl", json.dumps([TALK, TALK]))

    assert found_in_array.startswith("1: item 2: id 'd1' is also")


def test_faults_of_lines_and_of_dialogues_come_in_one_order(tmp_path: Path, spaces: Spaces) -> None:
    """A line that is no JSON is a fault among those of dialogues."""
    path = tmp_path / "some.jsonl"
    utterance = {"speaker": "Ann", "text": "Oh!", "label": "glee"}
    unknown = json.dumps({**TALK, "utterances": [utterance]})
    path.write_text("\n".join([unknown, "{", json.dumps({**TALK, "id": ""}), "["]))

    assert [fault.line for fault in look("jsonl", path, spaces["meld"]).faults] == [1, 2, 3, 4]


def test_first_fault_stands_for_all_where_a_corpus_is_used(tmp_path: Path, spaces: Spaces) -> None:
    """With how many more there are, and what lists them."""
    path = tmp_path / "small.csv"
    path.write_text(HEADER + "".join(MELD) + "".join(MELD[:3]))

    with pytest.raises(DatasetError, match=r"csv:8: .* \(and 2 more: `instructerc-train data chec"):
        read_corpus("meld", path, spaces)


def test_name_given_twice_in_json_is_refused(said_of: Callable[[str, str], list[str]]) -> None:
    """The last one would count, in silence."""
    text = release((SCENE, [f"{SCENE}_u001"])).replace('"emotion"', '"transcript"')

    (message,) = said_of("emorynlp", text)

    assert "'transcript' is given twice in one object" in message
