"""What an embedded index needs of its disk: room, and that what is written has arrived there."""

import os
import shutil
from pathlib import Path

from service.errors import DemonstrationsUnavailable

# Free disk space that a write requires: several times the size of a batch of rows in the log and,
# when that is flushed, in the segments.
ROOM_BYTES = 64 * 2**20


def check_room(folder: Path) -> None:
    """Refuse to write when the disk is almost full.

    The library writes to memory-mapped files whose disk space is not reserved: if none is left when
    a page is first written, the kernel kills the process.

    Raises:
        DemonstrationsUnavailable: there is too little disk space.
    """
    if shutil.disk_usage(folder).free < ROOM_BYTES:
        raise DemonstrationsUnavailable("the disk is too full for more demonstrations")


def sync(path: Path) -> None:
    """Sync a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(shard: Path) -> None:
    """Sync all of a closed shard to the disk."""
    for path in shard.rglob("*"):
        if path.is_file():
            sync(path)
    sync_folders(shard)


def sync_folders(shard: Path) -> None:
    """Sync the names of a shard's files to the disk."""
    for path in (shard, *shard.rglob("*")):
        if path.is_dir():
            sync(path)
