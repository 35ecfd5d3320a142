"""The shipped demonstrations: their file, and the index built from it.

A disk cache keeps their vectors, so that commands encode them once. Its file is named after the
edition, which identifies demonstrations and encoder. Any number of processes may read and write it
at once; nothing depends on it.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from numpy.lib.format import read_array

from service.conversation.dialogue import Demonstration, fault_of_name, fault_of_text
from service.conversation.labels import LabelSpace, UnknownLabel
from service.demonstrations.encoder import DIMENSIONS, LARGEST_BATCH, Encoder, Vectors
from service.demonstrations.store import DemonstrationStore
from service.json_lines import read_json_lines

log = logging.getLogger(__name__)

_FIELDS = ("id", "label_space", "label", "text")

# Part of every edition: another number makes every index be built again.
_LAYOUT = 1


class DemonstrationFormatError(ValueError):
    """A file of demonstrations is malformed; the message names file, line and field."""


def read_demonstrations(
    path: Path, label_spaces: Mapping[str, LabelSpace]
) -> tuple[Demonstration, ...]:
    """Read demonstrations, one JSON object a line with these fields, all of them text.

    A line is `{"id": "meld-joy-01", "label_space": "meld", "label": "joy", "text": "..."}`. Labels
    are matched without regard to case and returned in lower case. Empty lines are skipped.

    Raises:
        DemonstrationFormatError: there is no such file, a line is not such an object, its label
            space or label is not in `label_spaces`, or an id occurs twice.
    """
    demonstrations: dict[str, Demonstration] = {}
    line_of_id: dict[str, str] = {}
    for number, value in read_json_lines(path, DemonstrationFormatError):
        try:
            demonstration = _demonstration(value, label_spaces)
        except DemonstrationFormatError as error:
            raise DemonstrationFormatError(f"{path}:{number}: {error}") from None
        if demonstration.id in demonstrations:
            raise DemonstrationFormatError(
                f"{path}:{number}: id: {demonstration.id!r} is also on line "
                f"{line_of_id[demonstration.id]}"
            )
        demonstrations[demonstration.id] = demonstration
        line_of_id[demonstration.id] = number
    return tuple(demonstrations.values())


def edition_of(demonstrations: Sequence[Demonstration], encoder_identity: str) -> str:
    """The fingerprint of an index of these demonstrations: a SHA-256 in hexadecimal."""
    rows = [[d.id, d.label_space, d.label, d.text] for d in demonstrations]
    content = json.dumps([_LAYOUT, encoder_identity, rows])
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


async def build_index(
    store: DemonstrationStore,
    encoder: Encoder,
    demonstrations: Sequence[Demonstration],
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    kept: Path | None = None,
) -> int:
    """Write these demonstrations to a store as its shipped edition.

    Other demonstrations of the previous edition are deleted; what people added stays, except under
    an id of this edition. If the store has this edition already, nothing changes, so that shipped
    demonstrations which people have deleted stay deleted. An interrupted build starts over.

    Args:
        progress: called after each batch with the numbers written and in total.
        kept: a folder that caches vectors, so that they are encoded once.

    Returns:
        The number written: all, or 0.

    Raises:
        DemonstrationsUnavailable: the encoder or the store fails.
    """
    edition = edition_of(demonstrations, encoder.identity)
    if await store.edition() == edition:
        return 0
    total = len(demonstrations)
    cached = None if kept is None else await asyncio.to_thread(read_vectors, kept, edition, total)
    if cached is not None:
        await store.add(demonstrations, cached, edition)
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
        raise DemonstrationFormatError(f"{stray}: unknown field; known are {', '.join(_FIELDS)}")
    demonstration = Demonstration(**{field: _text(value, field) for field in _FIELDS})
    space = label_spaces.get(demonstration.label_space)
    if space is None:
        raise DemonstrationFormatError(
            f"label_space: {demonstration.label_space!r} is not one of {', '.join(label_spaces)}"
        )
    try:
        label = space.label(demonstration.label)
    except UnknownLabel as error:
        raise DemonstrationFormatError(f"label: {error}") from None
    return Demonstration(demonstration.id, space.name, label.name, demonstration.text)


def _text(value: Mapping[str, object], field: str) -> str:
    if field not in value:
        raise DemonstrationFormatError(f"{field}: is missing")
    text = value[field]
    if not isinstance(text, str):
        raise DemonstrationFormatError(f"{field}: must be text, not {text!r}")
    fault = fault_of_text(text) if field == "text" else fault_of_name(text)
    if fault is not None:
        raise DemonstrationFormatError(f"{field}: {fault}")
    return text


def read_vectors(folder: Path, edition: str, count: int) -> Vectors | None:
    """The vectors of an edition's demonstrations, shape (count, 384); None if not cached."""
    try:
        with _file(folder, edition).open("rb") as file:
            vectors: Vectors = read_array(file, allow_pickle=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError):  # missing, or not an array
        return None
    if vectors.shape != (count, DIMENSIONS) or vectors.dtype != np.float32:
        return None
    if not np.isfinite(vectors).all():
        return None
    return vectors


def keep_vectors(folder: Path, edition: str, vectors: Vectors) -> None:
    """Cache an edition's vectors in place of other editions'; on failure nothing is cached."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, suffix=".unfinished", delete=False) as file:
            try:
                np.save(file, vectors)
                file.flush()
                Path(file.name).replace(_file(folder, edition))
            except BaseException:
                Path(file.name).unlink()
                raise
        for other in folder.glob("*.npy"):
            if other != _file(folder, edition):
                with suppress(FileNotFoundError):  # deleted by another process
                    other.unlink()
    except OSError as error:
        log.debug("the demonstrations' vectors are not cached: %s", error)


def _file(folder: Path, edition: str) -> Path:
    return folder / f"{edition}.npy"
