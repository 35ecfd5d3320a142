"""IEMOCAP's official release, in small."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.conversation.dialogue import Dialogue, Utterance, lines_of
from service.conversation.labels import LabelSpace
from service.conversation.prompts import InstructercV1
from service.dialogue_files import read_dialogues
from training.cli import app
from training.datasets.errors import DatasetError
from training.datasets.fingerprint import fingerprint
from training.datasets.reading import read_corpus

NAME = "Ses01F_impro01"
TRANSCRIPT = f"""\
{NAME}_F000 [006.2901-008.2357]: The ferry is gone.
{NAME}_M001 [011.0000-014.8872]: Again?
{NAME}_F001 [010.0100-011.3925]: It is gone again.
{NAME}_MXX0 [014.9000-015.1000]: Hm.
M: [LAUGHTER]
{NAME}_M002 [019.2900-020.7875]: I am so tired of this.
"""
RATINGS = f"""\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\t{NAME}_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
A-E3:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\t{NAME}_F001\tsad\t[2.0000, 2.5000, 2.5000]
[11.0000 - 14.8872]\t{NAME}_M001\tsur\t[2.0000, 3.5000, 2.5000]
[19.2900 - 20.7875]\t{NAME}_M002\tfru\t[2.0000, 3.5000, 2.5000]
"""


def write_session(
    release: Path,
    number: int,
    name: str = NAME,
    *,
    transcript: str = TRANSCRIPT,
    ratings: str = RATINGS,
) -> Path:
    """A session's folder with one dialogue."""
    session = release / f"Session{number}"
    for folder, text in (("transcriptions", transcript), ("EmoEvaluation", ratings)):
        (session / "dialog" / folder).mkdir(parents=True, exist_ok=True)
        (session / "dialog" / folder / f"{name}.txt").write_text(text.replace(NAME, name))
    return session


def test_turns_stand_in_the_order_in_which_they_begin(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """One without a label of the six keeps its place in the history; what has no turn is left.

    Ids are the turns' names.
    """
    session = write_session(tmp_path, 1)

    corpus = read_corpus("iemocap", session, spaces)

    assert corpus.label_space.name == "iemocap"
    assert corpus.dialogues == (
        Dialogue(
            NAME,
            (
                Utterance("1", "The ferry is gone.", "neutral", id=f"{NAME}_F000"),
                Utterance("1", "It is gone again.", "sad", id=f"{NAME}_F001"),
                Utterance("0", "Again?", id=f"{NAME}_M001"),
                Utterance("0", "I am so tired of this.", "frustrated", id=f"{NAME}_M002"),
            ),
        ),
    )


def test_published_prompt_numbers_a_man_0_and_a_woman_1(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Whoever begins, here she: byte for byte what InstructERC's code writes of this dialogue."""
    corpus = read_corpus("iemocap", write_session(tmp_path, 1), spaces)
    template = InstructercV1()

    *history, target = lines_of(
        corpus.dialogues[0].utterances, keep_integers=template.keeps_integer_speakers
    )

    assert template.main(corpus.label_space, history, target).text == (
        "Now you are expert of sentiment and emotional analysis. The following conversation noted "
        "between '### ###' involves several speakers. ### "
        '\t Speaker_1:"The ferry is gone."\t Speaker_1:"It is gone again."'
        '\t Speaker_0:"Again?"\t Speaker_0:"I am so tired of this."'
        ' ### Please select the emotional label of < Speaker_0:"I am so tired of this."> from '
        "<happy, sad, neutral, angry, excited, frustrated>:"
    )
    assert [template.speaker_answer(line) for line in (*history, target)] == [
        *("Speaker_1", "Speaker_1", "Speaker_0", "Speaker_0"),
    ]


def test_release_is_read_session_by_session(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Whatever else lies in its folder."""
    write_session(tmp_path, 5, "Ses05M_script01_1b")
    write_session(tmp_path, 1)
    (tmp_path / "Documentation").mkdir()

    corpus = read_corpus("iemocap", tmp_path, spaces)

    assert [d.id for d in corpus.dialogues] == [NAME, "Ses05M_script01_1b"]


def write_release(folder: Path) -> Path:
    """Twenty dialogues in Sessions 1 to 4, two in Session 5."""
    for session in range(1, 5):
        for number in range(1, 6):
            write_session(folder, session, f"Ses0{session}F_impro0{number}")
    for name in ("Ses05F_impro01", "Ses05M_script01_1"):
        write_session(folder, 5, name)
    return folder


def convert(source: Path, out: Path, label_space: str = "iemocap") -> Result:
    command = ["data", "convert", str(source), "--label-space", label_space, "--out", str(out)]
    return CliRunner().invoke(app, command)


def test_release_becomes_the_files_that_recipes_read(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Session 5 is the test split; every tenth dialogue of the others, by name, is held out."""
    release, out = write_release(tmp_path / "release"), tmp_path / "iemocap"

    result = convert(release, out)

    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        f"{out}/train.jsonl: 18 dialogues, 72 utterances",
        f"{out}/dev.jsonl: 2 dialogues, 8 utterances",
        f"{out}/test.jsonl: 2 dialogues, 8 utterances",
    ]
    read = {
        split: read_corpus("jsonl", out / f"{split}.jsonl", spaces, "iemocap").dialogues
        for split in ("train", "dev", "test")
    }
    assert [d.id for d in read["dev"]] == ["Ses02F_impro05", "Ses04F_impro05"]
    assert [d.id for d in read["test"]] == ["Ses05F_impro01", "Ses05M_script01_1"]
    whole = read_corpus("iemocap", release, spaces).dialogues
    assert sorted((d for of in read.values() for d in of), key=lambda d: d.id) == list(whole)


def test_converted_utterances_keep_the_names_of_their_turns(tmp_path: Path) -> None:
    """They follow an utterance to its prediction."""
    convert(write_release(tmp_path / "release"), tmp_path)

    (first, _) = read_dialogues(tmp_path / "dev.jsonl")
    assert [u.id for u in first.utterances] == [
        f"Ses02F_impro05_{turn}" for turn in ("F000", "F001", "M001", "M002")
    ]


def test_release_with_a_session_missing_is_not_split(tmp_path: Path) -> None:
    """Half an archive was unpacked: every tenth dialogue would be another one."""
    release = write_release(tmp_path / "release")
    (release / "Session3").rename(tmp_path / "Session3")

    result = convert(release, tmp_path / "out")

    assert result.exit_code == 2
    assert f"{release}: has no Session3; splits need the whole release" in result.output
    assert not (tmp_path / "out").exists()


def test_folder_of_another_corpus_is_not_converted(tmp_path: Path) -> None:
    """The error says what is."""
    result = convert(write_release(tmp_path / "release"), tmp_path / "out", "meld")

    assert result.exit_code == 2
    assert "is a folder; name a shared pickle for meld" in result.output


@pytest.mark.parametrize(
    ("transcript", "ratings", "message"),
    [
        (TRANSCRIPT, RATINGS.replace("\tsad\t", "\tmad\t"), r"impro01\.txt:7: emotion is 'mad'"),
        (TRANSCRIPT, "nothing\n", "contains no rating"),
        (
            TRANSCRIPT.replace("_M002", "_M003"),
            RATINGS,
            f"has no {NAME}_M002, which was rated",
        ),
    ],
)
def test_broken_release_is_refused(
    tmp_path: Path, spaces: Mapping[str, LabelSpace], transcript: str, ratings: str, message: str
) -> None:
    """With file and line or turn."""
    session = write_session(tmp_path, 1, transcript=transcript, ratings=ratings)

    with pytest.raises(DatasetError, match=message):
        read_corpus("iemocap", session, spaces)


def test_missing_ratings_are_named(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """Half an archive was unpacked."""
    session = write_session(tmp_path, 1)
    (session / "dialog" / "EmoEvaluation" / f"{NAME}.txt").unlink()

    with pytest.raises(DatasetError, match=rf"EmoEvaluation/{NAME}\.txt: No such file"):
        read_corpus("iemocap", session, spaces)


def test_another_folder_is_no_release(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """The error says what was looked for."""
    with pytest.raises(DatasetError, match="contains neither Session1 to Session5"):
        read_corpus("iemocap", tmp_path, spaces)


def test_fingerprint_of_a_release_tells_every_change(tmp_path: Path) -> None:
    """Of contents and of names, and it is the same wherever the folder lies."""
    for folder in ("one", "two"):
        write_session(tmp_path / folder, 1)
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two")

    changed = tmp_path / "two" / "Session1" / "dialog" / "EmoEvaluation" / f"{NAME}.txt"
    changed.write_text(RATINGS.replace("\tneu\t", "\thap\t"))
    assert fingerprint(tmp_path / "one") != fingerprint(tmp_path / "two")
    changed.write_text(RATINGS)
    changed.rename(changed.with_name("Ses01F_impro02.txt"))
    assert fingerprint(tmp_path / "one") != fingerprint(tmp_path / "two")
