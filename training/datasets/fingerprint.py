"""Hashes of files that decide a training run: corpora, folders of them, and weights."""

import hashlib
from pathlib import Path


def fingerprint(path: Path) -> str:
    """SHA-256 of a file; of a folder, of the names and contents of the text files in it.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_file():
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    whole = hashlib.sha256()
    for file in sorted(path.rglob("*.txt")):
        name = file.relative_to(path).as_posix()
        whole.update(f"{name}\0{fingerprint(file)}\n".encode())
    return whole.hexdigest()
