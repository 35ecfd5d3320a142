"""EmoryNLP's original release, in small."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from training.datasets.errors import DatasetError
from training.datasets.reading import Corpus, read_corpus

SCENE = "s01_e02_c03"


def utterance(
    number: int, text: str, *speakers: str, scene: str = SCENE, **others: object
) -> dict[str, Any]:
    return {
        "utterance_id": f"{scene}_u{number:03}",
        "speakers": list(speakers),
        "transcript": text,
        "tokens": [text.split()],
    } | others


def release(*utterances: object) -> dict[str, Any]:
    """One scene with these utterances."""
    return {
        "season_id": "trn",
        "episodes": [
            {
                "episode_id": "s01_e02",
                "scenes": [{"scene_id": SCENE, "utterances": list(utterances)}],
            }
        ],
    }


def read(value: object, tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> Corpus:
    """A file that holds this value, or this very text, read."""
    path = tmp_path / "small.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return read_corpus("emorynlp", path, spaces)


def test_scenes_are_dialogues(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """In the file's order; several who speak at once are one speaker, as in the CSV files."""
    value = release(
        utterance(1, "The stairs creak.", "Ida Moor", emotion="Scared"),
        utterance(2, "Be quiet!", "Jo Reed", "Ida Moor", emotion="Mad"),
    )
    value["episodes"][0]["scenes"].append(
        {
            "scene_id": "s01_e02_c04",
            "utterances": [
                utterance(
                    1, "I feel calm here.", "Gus O'Hara", scene="s01_e02_c04", emotion="Peaceful"
                )
            ],
        }
    )

    corpus = read(value, tmp_path, spaces)

    assert corpus.label_space.name == "emorynlp"
    assert corpus.dialogues == (
        Dialogue(
            "small/s01_e02_c03",
            (
                Utterance("Ida Moor", "The stairs creak.", "scared", id=f"{SCENE}_u001"),
                Utterance("Jo Reed & Ida Moor", "Be quiet!", "mad", id=f"{SCENE}_u002"),
            ),
        ),
        Dialogue(
            "small/s01_e02_c04",
            (Utterance("Gus O'Hara", "I feel calm here.", "peaceful", id="s01_e02_c04_u001"),),
        ),
    )


def test_utterance_that_nobody_labelled_stays_in_the_history(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Whether the field is missing or null."""
    value = release(
        utterance(1, "Is the ferry late?", "Ann"),
        utterance(2, "It is.", "Bo", emotion=None),
        utterance(3, "Hurrah!", "Ann", emotion="Joyful"),
    )

    corpus = read(value, tmp_path, spaces)

    assert [u.label for u in corpus.dialogues[0].utterances] == [None, None, "joyful"]


def test_label_of_a_seasons_file_stands_before_the_raters_own(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    value = release(utterance(1, "We won!", "Ann", emotion=["Powerful", "Joyful", "Powerful"]))

    corpus = read(value, tmp_path, spaces)

    assert corpus.dialogues[0].utterances[0].label == "powerful"


def test_stage_directions_are_left_out(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """They are utterances without words; a scene of nothing else is no dialogue."""
    note = utterance(0, "", transcript_with_note="[A kitchen. It rains.]")
    value = release(note, utterance(1, "It rains.", "Ann", emotion="Sad"))
    value["episodes"][0]["scenes"].append({"scene_id": "s01_e02_c04", "utterances": [note]})

    corpus = read(value, tmp_path, spaces)

    assert corpus.dialogues == (
        Dialogue("small/s01_e02_c03", (Utterance("Ann", "It rains.", "sad", id=f"{SCENE}_u001"),)),
    )


def test_speaker_that_is_not_named_is_called_a_question_mark(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """The words were heard and labelled; a voice without a name is no reason to lose them."""
    corpus = read(release(utterance(1, "Fire!", emotion="Scared")), tmp_path, spaces)

    assert corpus.dialogues[0].utterances == (
        Utterance("?", "Fire!", "scared", id=f"{SCENE}_u001"),
    )


def test_punctuation_that_became_control_characters_is_mended(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """As in the CSV files."""
    corpus = read(release(utterance(1, "It\u0092s late\u0085", "Ann")), tmp_path, spaces)

    assert corpus.dialogues[0].utterances[0].text == "It’s late…"


def test_suffix_tells_the_release_from_the_csv_files(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """In whatever case it is written."""
    path = tmp_path / "small.JSON"
    path.write_text(json.dumps(release(utterance(1, "We won!", "Ann"))))

    assert len(read_corpus("emorynlp", path, spaces).dialogues) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emotion": "Angry"}, "emotion: 'Angry' is not a label of emorynlp"),
        ({"emotion": 3}, "emotion is 3, not a label"),
        ({"emotion": []}, r"emotion is \[\], not a label"),
        ({"speakers": "Ann"}, "speakers is 'Ann', not a list of names"),
        ({"speakers": [None]}, r"speakers is \[None\], not a list of names"),
        ({"speakers": None}, "speakers is None, not a list of names"),
        ({"transcript": None}, "transcript is None, not text"),
        ({"transcript": ["word"] * 50}, r"transcript is \['word', .{0,50}\.\.\., not text"),
    ],
)
def test_error_names_file_and_utterance(
    changes: dict[str, Any], message: str, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """An utterance's id tells its season, episode and scene."""
    broken = utterance(7, "We won!", "Ann", emotion="Joyful") | changes

    with pytest.raises(DatasetError, match=rf"small\.json:1: s01_e02_c03_u007: {message}"):
        read(release(broken), tmp_path, spaces)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "not an object with episodes"),
        ({}, "episodes is None, not a list"),
        ({"episodes": [{"scenes": []}]}, r"episodes\[0\] is not an object with episode_id"),
        ({"episodes": [{"episode_id": "s01_e02"}]}, "s01_e02: scenes is None, not a list"),
        (
            {"episodes": [{"episode_id": "s01_e02", "scenes": ["s01_e02_c01"]}]},
            r"s01_e02: scenes\[0\] is not an object with scene_id",
        ),
        (
            release(utterance(1, "We won!", "Ann"), {"utterance_id": 2, "speakers": []}),
            r"s01_e02_c03: utterances\[1\] is not an object with utterance_id",
        ),
    ],
)
def test_error_names_file_and_the_part_that_is_broken(
    value: object, message: str, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    with pytest.raises(DatasetError, match=rf"small\.json(:1)?: {message}"):
        read(value, tmp_path, spaces)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"season_id": "trn",\n"episodes": [}', r"small\.json:2: not JSON: Expecting value"),
        (f'{{"episodes": {"1" * 5000}}}', r"small\.json: cannot be read as JSON"),
        (f'{{"episodes": {"[" * 100_000}', r"small\.json: cannot be read as JSON"),
    ],
    ids=["cut short", "huge number", "nested too deep"],
)
def test_file_that_is_not_json_is_refused(
    text: str, message: str, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """With its line, where it has one."""
    with pytest.raises(DatasetError, match=message):
        read(text, tmp_path, spaces)


def test_missing_file_is_named(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    with pytest.raises(DatasetError, match=r"none\.json: No such file"):
        read_corpus("emorynlp", tmp_path / "none.json", spaces)


def test_release_without_words_is_refused(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """Training on nothing would succeed."""
    with pytest.raises(DatasetError, match=r"small\.json: contains no dialogue"):
        read({"season_id": "s01", "episodes": []}, tmp_path, spaces)
