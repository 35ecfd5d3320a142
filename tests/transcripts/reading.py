"""Reads the files of this folder's tests, which look as the programs write them."""

from pathlib import Path

from service.conversation.dialogue import Dialogue, Utterance
from service.dialogue_files import DialogueFormatError, Reading, read_each_dialogue

FILES = Path(__file__).parent / "files"


def parts(name: str, reading: Reading | None = None) -> list[Dialogue | str]:
    """The dialogues of a file, and in their places the errors, which name only the file."""
    path = FILES / name
    return [
        str(part).removeprefix(f"{path}:") if isinstance(part, DialogueFormatError) else part
        for part in read_each_dialogue(path, reading or Reading())
    ]


def utterances(name: str, reading: Reading | None = None) -> tuple[Utterance, ...]:
    """Those of a file's one dialogue, which is named after it."""
    (dialogue,) = parts(name, reading)
    assert isinstance(dialogue, Dialogue)
    assert dialogue.id == Path(name).stem
    return dialogue.utterances


def refusal(name: str, reading: Reading | None = None) -> str:
    """The error of a file that is no transcript, without its name."""
    (error,) = parts(name, reading)
    assert isinstance(error, str)
    return error


def spoken(
    speaker: str,
    text: str,
    start: float | None = None,
    end: float | None = None,
    role: str | None = None,
    id: str | None = None,  # noqa: A002
) -> Utterance:
    return Utterance(speaker, text, id=id, start=start, end=end, role=role)
