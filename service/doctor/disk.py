"""Checks of the folders that are written to."""

import os
import shutil
import tempfile
from pathlib import Path

from service.demonstrations.points import ROOM_BYTES
from service.doctor.findings import Fault, Status
from service.doctor.machine import GIB
from service.sessions.engines import sqlite_file
from service.settings import Settings

_MIB = 2**20


def disk(settings: Settings) -> str:
    """Free room, and the right to write: of the SQLite file, the embedded index, and what may be
    lost.
    """
    folders = {"TMPDIR": Path(tempfile.gettempdir())}
    if (file := _sqlite_file(settings)) is not None:
        folders = {"ERC_DATABASE__URL": file.parent, **folders}
    if settings.qdrant.url is None:
        folders["ERC_DEMONSTRATIONS__FOLDER"] = settings.demonstrations.folder.absolute()
    said: list[str] = []
    faults: list[Fault] = []
    for variable, folder in folders.items():
        try:
            said.append(_room(folder, variable))
        except Fault as fault:
            faults.append(fault)
    if not faults:
        return ", ".join(dict.fromkeys(said))
    worst: Status = "failed" if any(each.status == "failed" for each in faults) else "warning"
    whats, remedies = (dict.fromkeys(map(str, faults)), dict.fromkeys(f.remedy for f in faults))
    raise Fault("; ".join(whats), "; ".join(remedies), worst)


def _sqlite_file(settings: Settings) -> Path | None:
    try:
        return sqlite_file(settings.database.url.get_secret_value())
    except ValueError:  # the database's check says so
        return None


def _room(folder: Path, variable: str) -> str:
    """What is free where a folder is, or will be made."""
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    elsewhere = f"have {variable} name another place"
    try:
        found, free = os.statvfs(there), shutil.disk_usage(there).free
    except OSError as error:
        raise Fault(f"{there} cannot be looked at ({error.strerror})", elsewhere) from None
    if not there.is_dir():
        raise Fault(f"{there} is not a folder", elsewhere)
    if found.f_flag & os.ST_RDONLY:
        raise Fault(f"{there} is on a read-only file system", f"mount it writable, or {elsewhere}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise Fault(
            f"user {os.geteuid()} may not write to {there}",
            f"change its owner or mode, or {elsewhere}",
        )
    if found.f_files and not found.f_favail:
        raise Fault(f"no file can be added in {there}: it has no inode left", "delete files there")
    said = f"{free / GIB:.1f} GiB free in {there}"
    if free < ROOM_BYTES:
        raise Fault(said, f"make room: below {ROOM_BYTES // _MIB} MiB the index is not written")
    if free < GIB:
        raise Fault(said, "make room: what is stored grows", "warning")
    return said
