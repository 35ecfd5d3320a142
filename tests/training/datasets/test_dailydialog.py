"""DailyDialog's official release, in small."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from training.datasets.errors import DatasetError
from training.datasets.reading import read_corpus

TEXTS = (
    "Is the ferry late ? __eou__ It is , I ’ m afraid . __eou__ Again ? __eou__\n"
    "Look , snow ! __eou__ I can't believe it . __eou__\n"
)
EMOTIONS = "0 5 1 \n4 6 \n"


def write_split(
    release: Path, split: str = "train", *, texts: str = TEXTS, emotions: str = EMOTIONS
) -> Path:
    """A split's folder, with a file that is not read."""
    folder = release / split
    folder.mkdir(parents=True)
    (folder / f"dialogues_{split}.txt").write_text(texts, encoding="utf-8")
    (folder / f"dialogues_emotion_{split}.txt").write_text(emotions, encoding="utf-8")
    (folder / f"dialogues_act_{split}.txt").write_text("2 1\n")
    return folder


def test_a_line_is_a_dialogue_of_two_who_take_turns(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Ids name file and line, line and turn; labels are emotions' names, texts as people write."""
    corpus = read_corpus("dailydialog", write_split(tmp_path), spaces)

    assert corpus.label_space.name == "dailydialog"
    assert corpus.dialogues == (
        Dialogue(
            "dialogues_train/1",
            (
                Utterance("0", "Is the ferry late?", "no emotion", id="1/1"),
                Utterance("1", "It is, I’m afraid.", "sadness", id="1/2"),
                Utterance("0", "Again?", "anger", id="1/3"),
            ),
        ),
        Dialogue(
            "dialogues_train/2",
            (
                Utterance("0", "Look, snow!", "happiness", id="2/1"),
                Utterance("1", "I can't believe it.", "surprise", id="2/2"),
            ),
        ),
    )


def test_numbers_are_the_label_spaces_labels_in_order(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    folder = write_split(tmp_path, texts="Hm . __eou__ " * 7, emotions="0 1 2 3 4 5 6")

    corpus = read_corpus("dailydialog", folder, spaces)

    assert tuple(u.label for u in corpus.dialogues[0].utterances) == corpus.label_space.names


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_split_is_named_by_its_folder_or_by_its_file(
    split: str, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    folder = write_split(tmp_path, split)

    by_folder = read_corpus("dailydialog", folder, spaces)
    by_file = read_corpus("dailydialog", folder / f"dialogues_{split}.txt", spaces)

    assert by_folder.dialogues == by_file.dialogues
    assert by_folder.dialogues[0].id == f"dialogues_{split}/1"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip(),
        lambda text: text + "\n\n",
        lambda text: text.replace(" __eou__\n", "\n"),
        lambda text: text.replace(" __eou__ ", "__eou__"),
    ],
    ids=[
        "byte-order-mark",
        "windows-line-ends",
        "no-last-line-end",
        "empty-lines-behind",
        "no-last-mark",
        "no-spaces-around-marks",
    ],
)
def test_how_a_file_was_saved_does_not_matter(
    change: Callable[[str], str], tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Nor whether the last utterance has its mark."""
    folder = write_split(tmp_path / "as it is")
    changed = write_split(tmp_path / "changed", texts=change(TEXTS), emotions=change(EMOTIONS))

    dialogues = read_corpus("dailydialog", changed, spaces)

    assert dialogues.dialogues == read_corpus("dailydialog", folder, spaces).dialogues


def test_utterance_without_words_is_left_out(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """It has its number and its turn all the same; a dialogue of nothing else is none."""
    folder = write_split(
        tmp_path,
        texts="Hello ? __eou__ __eou__ Anybody ? __eou__\n\n__eou__\nBye . __eou__\n",
        emotions="0 0 3\n\n0\n4\n",
    )

    corpus = read_corpus("dailydialog", folder, spaces)

    assert corpus.dialogues == (
        Dialogue(
            "dialogues_train/1",
            (
                Utterance("0", "Hello?", "no emotion", id="1/1"),
                Utterance("0", "Anybody?", "fear", id="1/3"),
            ),
        ),
        Dialogue("dialogues_train/4", (Utterance("0", "Bye.", "happiness", id="4/1"),)),
    )


def test_punctuation_that_became_control_characters_is_mended(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Windows-1252 read as Latin-1; one of them is a line break to Unicode."""
    folder = write_split(tmp_path, texts="It\u0092s late\u0085 __eou__\n", emotions="0\n")

    corpus = read_corpus("dailydialog", folder, spaces)

    assert corpus.dialogues[0].utterances[0].text == "It’s late…"


@pytest.mark.parametrize(
    ("texts", "emotions", "message"),
    [
        (TEXTS, "0 5 1\n4\n", "2: 1 emotions, but 2 utterances"),
        (TEXTS, "0 5 1\n4 6 0\n", "2: 3 emotions, but 2 utterances"),
        (TEXTS, "0 5 1\n", "2: 0 emotions, but 2 utterances"),
        (TEXTS, EMOTIONS + "0 0\n", "3: 2 emotions, but 0 utterances"),
        (TEXTS, "\n" + EMOTIONS, "1: 0 emotions, but 3 utterances"),
        (TEXTS, "0 5 7\n4 6\n", "1: emotion is '7', not 0 to 6"),
        (TEXTS, "0 5 sad\n4 6\n", "1: emotion is 'sad', not 0 to 6"),
    ],
)
def test_emotions_that_do_not_fit_are_refused_with_file_and_line(
    texts: str, emotions: str, message: str, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """A label would otherwise stand at another's utterance."""
    folder = write_split(tmp_path, texts=texts, emotions=emotions)

    with pytest.raises(DatasetError, match=rf"train/dialogues_emotion_train\.txt:{message}"):
        read_corpus("dailydialog", folder, spaces)


@pytest.mark.parametrize("name", ["dialogues_train.txt", "dialogues_emotion_train.txt"])
def test_file_that_is_not_utf_8_is_refused_with_its_line(
    name: str, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    folder = write_split(tmp_path)
    (folder / name).write_bytes(b"0\n0\ncaf\xe9\n")

    with pytest.raises(DatasetError, match=rf"{name}:3: not UTF-8"):
        read_corpus("dailydialog", folder, spaces)


def test_missing_emotions_are_named(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """Half an archive was unpacked."""
    folder = write_split(tmp_path)
    (folder / "dialogues_emotion_train.txt").unlink()

    with pytest.raises(DatasetError, match=r"dialogues_emotion_train\.txt: No such file"):
        read_corpus("dailydialog", folder, spaces)


def test_another_place_is_no_split(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """The whole release, no folder at all, two splits in one: the error says what was wanted."""
    names = r"dialogues_train\.txt, dialogues_validation\.txt, dialogues_test\.txt"
    folder = write_split(tmp_path)

    with pytest.raises(DatasetError, match=f"contains 0 of {names} instead of one"):
        read_corpus("dailydialog", tmp_path, spaces)
    with pytest.raises(DatasetError, match=f"none: neither a folder nor one of {names}"):
        read_corpus("dailydialog", tmp_path / "none", spaces)
    (folder / "dialogues_test.txt").touch()
    with pytest.raises(DatasetError, match=f"contains 2 of {names} instead of one"):
        read_corpus("dailydialog", folder, spaces)


def test_split_without_a_dialogue_is_refused(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Training on nothing would succeed."""
    folder = write_split(tmp_path, texts="\n", emotions="\n")

    with pytest.raises(DatasetError, match="train: contains no dialogue"):
        read_corpus("dailydialog", folder, spaces)
