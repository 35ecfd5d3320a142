"""Files and folders that are there whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def written_whole(target: Path) -> Iterator[TextIO]:
    """A UTF-8 text file to write that becomes `target` when the block ends well.

    After a failure nothing of it is left, and an older `target` is as it was.
    """
    unfinished = target.with_name(target.name + ".unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            yield file
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(target: Path) -> Iterator[Path]:
    """An empty folder to fill that becomes `target` when the block ends well.

    After a failure nothing of it is left, and an older `target` is as it was. Files are readable
    by those who may enter the folder: libraries make weights for their own user alone.
    """
    unfinished = target.with_name(target.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        readable = unfinished.stat().st_mode & 0o666  # what the umask leaves
        for path in unfinished.rglob("*"):
            if path.is_file():
                path.chmod(path.stat().st_mode | readable)
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
