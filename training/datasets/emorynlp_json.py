"""EmoryNLP as its authors publish it, in JSON (emorynlp/emotion-detection, character-mining).

Both are episodes of scenes of utterances. The seasons of character-mining also hold scenes that
nobody labelled, stage directions as utterances without words, and each rater's own opinion.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace, UnknownLabel
from training.datasets.errors import DatasetError
from training.datasets.tables import read_text
from training.datasets.text import mend


def read(path: Path, label_space: LabelSpace) -> Iterator[Dialogue]:
    """Scenes in the order of the file; their ids are the file's stem and `scene_id`.

    Utterances have their `utterance_id`. Those that nobody labelled stay in the history without a
    label. Those without words are left out, and with them the scenes in which nobody speaks. One
    whose speakers the file does not name has a speaker with an empty name.

    Raises:
        DatasetError: not JSON, something else than episodes of scenes of utterances, or an unknown
            label; the message names the file and the utterance.
    """
    text = read_text(path)
    try:
        release = json.loads(text)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a huge number, or nested too deep
        raise DatasetError(f"{path}: not JSON that can be read: {error}") from None
    if not isinstance(release, dict):
        raise DatasetError(f"{path}: not an object with episodes")
    for episode in _Part(path, "", release).parts("episodes", "episode_id"):
        for scene in episode.parts("scenes", "scene_id"):
            spoken = tuple(
                _utterance(part, label_space)
                for part in scene.parts("utterances", "utterance_id")
                if part.text("transcript").strip()
            )
            if spoken:
                yield Dialogue(f"{path.stem}/{scene.place}", spoken)


@dataclass(frozen=True, slots=True)
class _Part:
    """An object of the file, and its id; the whole file's is empty."""

    path: Path
    place: str
    values: dict[str, Any]

    def parts(self, key: str, id_key: str) -> Iterator[Self]:
        """The objects in the list `key`, each known by its `id_key`."""
        found = self.values.get(key)
        if not isinstance(found, list):
            raise self.error(f"{key} is {_shown(found)}, not a list")
        for number, values in enumerate(found):
            identifier = values.get(id_key) if isinstance(values, dict) else None
            if not isinstance(identifier, str) or not identifier:
                raise self.error(f"{key}[{number}] is not an object with {id_key}")
            yield type(self)(self.path, identifier, values)

    def text(self, key: str) -> str:
        found = self.values.get(key)
        if not isinstance(found, str):
            raise self.error(f"{key} is {_shown(found)}, not text")
        return found

    def error(self, problem: str) -> DatasetError:
        where = f"{self.path}: {self.place}" if self.place else f"{self.path}"
        return DatasetError(f"{where}: {problem}")


def _utterance(part: _Part, label_space: LabelSpace) -> Utterance:
    return Utterance(
        _speaker(part),
        mend(part.text("transcript")),
        _label(part, label_space),
        id=part.place,
    )


def _speaker(part: _Part) -> str:
    names = part.values.get("speakers")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise part.error(f"speakers is {_shown(names)}, not a list of names")
    return " & ".join(names)


def _label(part: _Part, label_space: LabelSpace) -> str | None:
    """In a season's file the label comes first and then what each rater said."""
    found = part.values.get("emotion")
    if found is None:
        return None
    name = found[0] if isinstance(found, list) and found else found
    if not isinstance(name, str):
        raise part.error(f"emotion is {_shown(found)}, not a label")
    try:
        return label_space.label(name.strip()).name
    except UnknownLabel as error:
        raise part.error(f"emotion: {error}") from None


def _shown(value: object) -> str:
    """A value as an error shows it, cut short: it may be a whole season."""
    whole = repr(value)
    return whole if len(whole) <= 60 else f"{whole[:57]}..."
