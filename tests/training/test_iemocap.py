"""IEMOCAP's official release, in small."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from service.conversation.dialogue import Dialogue, Utterance, lines_of
from service.conversation.labels import LabelSpace
from service.conversation.prompts import InstructercV1
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


@pytest.mark.parametrize(
    ("transcript", "ratings", "said"),
    [
        (TRANSCRIPT, RATINGS.replace("\tsad\t", "\tmad\t"), r"impro01\.txt:7: emotion is 'mad'"),
        (TRANSCRIPT, "nothing\n", "holds no rating"),
        (
            TRANSCRIPT.replace("_M002", "_M003"),
            RATINGS,
            f"has no {NAME}_M002, which was rated",
        ),
    ],
)
def test_broken_release_is_refused(
    tmp_path: Path, spaces: Mapping[str, LabelSpace], transcript: str, ratings: str, said: str
) -> None:
    """With file and line or turn."""
    session = write_session(tmp_path, 1, transcript=transcript, ratings=ratings)

    with pytest.raises(DatasetError, match=said):
        read_corpus("iemocap", session, spaces)


def test_missing_ratings_are_named(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """Half an archive was unpacked."""
    session = write_session(tmp_path, 1)
    (session / "dialog" / "EmoEvaluation" / f"{NAME}.txt").unlink()

    with pytest.raises(DatasetError, match=rf"EmoEvaluation/{NAME}\.txt: No such file"):
        read_corpus("iemocap", session, spaces)


def test_another_folder_is_no_release(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """The error says what was looked for."""
    with pytest.raises(DatasetError, match="holds neither Session1 to Session5"):
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
