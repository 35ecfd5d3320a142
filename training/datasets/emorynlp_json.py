"""EmoryNLP as its authors publish it, in JSON (emorynlp/emotion-detection, character-mining).

Both are episodes of scenes of utterances. The seasons of character-mining also hold scenes that
nobody labelled, stage directions as utterances without words, and each rater's own opinion.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from service.conversation.dialogue import Utterance
from service.unique_names import unique_names
from training.datasets.errors import DatasetError
from training.datasets.located import DialogueOrFault, LocatedUtterance, Place, in_own_order
from training.datasets.tables import read_text, shown
from training.datasets.text import mend

_IDS = re.compile(r'(?<!\\)"((?:episode|scene|utterance)_id)"\s*:\s*("(?:[^"\\]|\\.)*")')
_UNNAMED = "?"
_NUMBER = re.compile(r"_u([0-9]{1,9})")


def read(path: Path) -> Iterator[DialogueOrFault]:
    """Scenes in the order of the file; their ids are the file's stem and `scene_id`.

    Utterances have their `utterance_id`, and follow each other by the numbers in these, where all
    of a scene have one. Those that nobody labelled stay in the history without a label. Those
    without words are left out, and with them the scenes in which nobody speaks. One whose speakers
    the file does not name has a speaker called "?".

    Raises:
        DatasetError: no such file, not JSON, or something else than episodes of scenes of
            utterances; the message names the file and the part.
    """
    text = read_text(path)
    try:
        release = json.loads(text, object_pairs_hook=unique_names)
    except json.JSONDecodeError as error:
        raise Place(path, error.lineno).error(f"not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a name twice, a huge number, nested too deep
        raise Place(path).error(f"cannot be read as JSON: {error}") from None
    if not isinstance(release, dict):
        raise Place(path).error("not an object with episodes")
    for episode in _Part(Place(path), release, _lines(text)).parts("episodes", "episode_id"):
        for scene in episode.parts("scenes", "scene_id"):
            spoken = []
            for part in scene.parts("utterances", "utterance_id"):
                try:
                    if part.text("transcript").strip():
                        spoken.append(_utterance(part))
                except DatasetError as error:
                    yield error
            if spoken:
                place = scene.place
                yield in_own_order(f"{path.stem}/{place.part}", place, spoken)


def _lines(text: str) -> Mapping[tuple[str, str], list[int]]:
    """The lines that each id stands on, in order, which JSON's values do not tell."""
    lines_of: dict[tuple[str, str], list[int]] = defaultdict(list)
    line, before = 1, 0
    for match in _IDS.finditer(text):
        line, before = line + text.count("\n", before, match.start()), match.start()
        lines_of[match[1], match[2]].append(line)
    return lines_of


@dataclass(frozen=True, slots=True)
class _Part:
    """An object of the file, and its id; the whole file's is empty."""

    place: Place
    values: dict[str, Any]
    lines: Mapping[tuple[str, str], list[int]]

    def parts(self, key: str, id_key: str) -> Iterator[Self]:
        """The objects in the list `key`, each known by its `id_key`."""
        items = self.values.get(key)
        if not isinstance(items, list):
            raise self.place.error(f"{key} is {shown(items)}, not a list")
        for number, values in enumerate(items):
            identifier = values.get(id_key) if isinstance(values, dict) else None
            if not isinstance(identifier, str) or not identifier:
                raise self.place.error(f"{key}[{number}] is not an object with {id_key}")
            place = Place(self.place.path, self._line(id_key, identifier), identifier)
            yield type(self)(place, values, self.lines)

    def text(self, key: str) -> str:
        text = self.values.get(key)
        if not isinstance(text, str):
            raise self.place.error(f"{key} is {shown(text)}, not text")
        return text

    def _line(self, id_key: str, identifier: str) -> int:
        """Of an id that comes again, the next line: parts are asked for in the file's order."""
        for ascii_only in (True, False):
            written = json.dumps(identifier, ensure_ascii=ascii_only)
            if lines := self.lines.get((id_key, written)):
                return lines.pop(0)
        return 0


def _utterance(part: _Part) -> LocatedUtterance:
    utterance = Utterance(
        _speaker(part), mend(part.text("transcript")), _label(part), id=part.place.part
    )
    number = _NUMBER.search(part.place.part)
    return LocatedUtterance(utterance, part.place, int(number[1]) if number else None, "emotion")


def _speaker(part: _Part) -> str:
    names = part.values.get("speakers")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise part.place.error(f"speakers is {shown(names)}, not a list of names")
    speaker = " & ".join(names)
    return speaker if speaker.strip() else _UNNAMED


def _label(part: _Part) -> str | None:
    """In a season's file the label comes first and then what each rater said."""
    emotion = part.values.get("emotion")
    if emotion is None:
        return None
    name = emotion[0] if isinstance(emotion, list) and emotion else emotion
    if not isinstance(name, str):
        raise part.place.error(f"emotion is {shown(emotion)}, not a label")
    return name.strip()
