"""A disk cache of the shipped demonstrations' vectors, so that commands encode them once.

A file in a folder of their own, named for their edition: the demonstrations and the encoder. Any
number of processes may read and write it at once, and nothing depends on its being there.
"""

import logging
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from numpy.lib.format import read_array

from service.demonstrations.encoder import DIMENSIONS, Vectors

log = logging.getLogger(__name__)


def read_vectors(folder: Path, edition: str, count: int) -> Vectors | None:
    """The vectors of an edition's demonstrations, shape (count, 384); None if none are kept."""
    try:
        with _file(folder, edition).open("rb") as file:
            found: Vectors = read_array(file, allow_pickle=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError):  # there is none, or it is no such file
        return None
    if found.shape != (count, DIMENSIONS) or found.dtype != np.float32:
        return None
    if not np.isfinite(found).all():
        return None
    vectors: Vectors = found
    return vectors


def keep_vectors(folder: Path, edition: str, vectors: Vectors) -> None:
    """Keep an edition's vectors, in place of other editions'; where that fails, nothing is kept."""
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
                with suppress(FileNotFoundError):  # another process was faster
                    other.unlink()
    except OSError as error:
        log.debug("the demonstrations' vectors are not kept: %s", error)


def _file(folder: Path, edition: str) -> Path:
    return folder / f"{edition}.npy"
