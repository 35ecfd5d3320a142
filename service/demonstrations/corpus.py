"""The shipped demonstrations: their file, and the index built from it."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from service.conversation.dialogue import Demonstration
from service.conversation.labels import LabelSpace, UnknownLabel
from service.conversation.words import fault_of_name, fault_of_text
from service.demonstrations.encoder import LARGEST_BATCH, Encoder
from service.demonstrations.kept_vectors import keep_vectors, read_vectors
from service.demonstrations.store import DemonstrationStore
from service.json_lines import read_json_lines

_FIELDS = ("id", "label_space", "label", "text")

# Part of every edition: another number here has every index built again.
_LAYOUT = 1


class DemonstrationFormatError(ValueError):
    """A file of demonstrations is malformed; the message names file, line and field."""


def read_demonstrations(
    path: Path, label_spaces: Mapping[str, LabelSpace]
) -> tuple[Demonstration, ...]:
    """Read demonstrations, one JSON object a line with these fields, all of them text.

    A line is `{"id": "meld-joy-01", "label_space": "meld", "label": "joy", "text": "..."}`. Labels
    are told apart without regard to case and returned in lower case. Empty lines are skipped.

    Raises:
        DemonstrationFormatError: no such file, a line is not such an object, its label space or
            label is not in `label_spaces`, or an id occurs twice.
    """
    found: dict[str, Demonstration] = {}
    lines: dict[str, str] = {}
    for number, value in read_json_lines(path, DemonstrationFormatError):
        try:
            demonstration = _demonstration(value, label_spaces)
        except DemonstrationFormatError as error:
            raise DemonstrationFormatError(f"{path}:{number}: {error}") from None
        if demonstration.id in found:
            raise DemonstrationFormatError(
                f"{path}:{number}: id: {demonstration.id!r} is also on line "
                f"{lines[demonstration.id]}"
            )
        found[demonstration.id] = demonstration
        lines[demonstration.id] = number
    return tuple(found.values())


def edition_of(demonstrations: Sequence[Demonstration], encoder_identity: str) -> str:
    """The fingerprint of an index of these demonstrations: a SHA-256 in hexadecimal."""
    rows = [[d.id, d.label_space, d.label, d.text] for d in demonstrations]
    whole = json.dumps([_LAYOUT, encoder_identity, rows])
    return hashlib.sha256(whole.encode("utf-8")).hexdigest()


async def build_index(
    store: DemonstrationStore,
    encoder: Encoder,
    demonstrations: Sequence[Demonstration],
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    kept: Path | None = None,
) -> int:
    """Have a store hold these demonstrations as its shipped edition.

    Those of the edition before that are not among these are deleted; what people added stays,
    except under an id that is among these. Where the store holds this very edition nothing is done,
    so that a demonstration which people have deleted since stays away. A build that is cut short is
    done again from the beginning.

    Args:
        progress: called after each batch with how many of how many are written.
        kept: a folder that vectors are taken from, and kept in, so that they are encoded once.

    Returns:
        How many were written: all, or 0.

    Raises:
        DemonstrationsUnavailable: the encoder or the store fails.
    """
    edition = edition_of(demonstrations, encoder.identity)
    if await store.edition() == edition:
        return 0
    total = len(demonstrations)
    found = None if kept is None else await asyncio.to_thread(read_vectors, kept, edition, total)
    if found is not None:
        await store.add(demonstrations, found, edition)
    else:
        encoded = []
        for start in range(0, total, LARGEST_BATCH):
            batch = demonstrations[start : start + LARGEST_BATCH]
            vectors = np.stack(await asyncio.gather(*(encoder.encode(d.text) for d in batch)))
            await store.add(batch, vectors, edition)
            encoded.append(vectors)
            progress(start + len(batch), total)
        if kept is not None and encoded:
            await asyncio.to_thread(keep_vectors, kept, edition, np.concatenate(encoded))
    await store.finish_edition(edition)
    return total


def _demonstration(value: object, label_spaces: Mapping[str, LabelSpace]) -> Demonstration:
    if not isinstance(value, dict):
        raise DemonstrationFormatError("a demonstration must be an object")
    for stray in value.keys() - set(_FIELDS):
        raise DemonstrationFormatError(f"{stray}: no such field; there are {', '.join(_FIELDS)}")
    demonstration = Demonstration(**{field: _text(value, field) for field in _FIELDS})
    space = label_spaces.get(demonstration.label_space)
    if space is None:
        raise DemonstrationFormatError(
            f"label_space: {demonstration.label_space!r} is none of {', '.join(label_spaces)}"
        )
    try:
        label = space.label(demonstration.label)
    except UnknownLabel as error:
        raise DemonstrationFormatError(f"label: {error}") from None
    return Demonstration(demonstration.id, space.name, label.name, demonstration.text)


def _text(value: Mapping[str, object], field: str) -> str:
    if field not in value:
        raise DemonstrationFormatError(f"{field}: is missing")
    found = value[field]
    if not isinstance(found, str):
        raise DemonstrationFormatError(f"{field}: must be text, not {found!r}")
    fault = fault_of_text(found) if field == "text" else fault_of_name(found)
    if fault is not None:
        raise DemonstrationFormatError(f"{field}: {fault}")
    return found
