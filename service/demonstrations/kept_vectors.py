"""A disk cache of the shipped demonstrations' vectors, so that commands encode them once.

The file has a folder of its own and is named after the edition, which identifies demonstrations and
encoder. Any number of processes may read and write it at once; nothing depends on it.
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
