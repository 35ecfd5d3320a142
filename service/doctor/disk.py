"""Checks of the folders that the service writes to."""

import os
import shutil
import tempfile
from pathlib import Path

from service.demonstrations.qdrant_edge.disk import ROOM_BYTES
from service.doctor.findings import Fault, Status
from service.doctor.machine import GIB
from service.sessions.engines import sqlite_file
from service.settings import Settings

_MIB = 2**20


def disk(settings: Settings) -> str:
    """Check free space and write permission for the SQLite file, the embedded index, and TMPDIR."""
    folders = {"TMPDIR": Path(tempfile.gettempdir())}
    if (file := _sqlite_file(settings)) is not None:
        folders = {"ERC_DATABASE__URL": file.parent, **folders}
    if settings.qdrant.url is None:
        folders["ERC_DEMONSTRATIONS__FOLDER"] = settings.demonstrations.folder.absolute()
    details: list[str] = []
    faults: list[Fault] = []
    for variable, folder in folders.items():
        try:
            details.append(_room(folder, variable))
        except Fault as fault:
            faults.append(fault)
    if not faults:
        return ", ".join(dict.fromkeys(details))
    worst: Status = "failed" if any(fault.status == "failed" for fault in faults) else "warning"
    messages, remedies = dict.fromkeys(map(str, faults)), dict.fromkeys(f.remedy for f in faults)
    raise Fault("; ".join(messages), "; ".join(remedies), worst)


def _sqlite_file(settings: Settings) -> Path | None:
    try:
        return sqlite_file(settings.database.url.get_secret_value())
    except ValueError:  # the database's check reports it
        return None


def _room(folder: Path, variable: str) -> str:
    """Describe the free space where a folder is, or will be created."""
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    elsewhere = f"set {variable} to another path"
    try:
        status, free = os.statvfs(existing), shutil.disk_usage(existing).free
    except OSError as error:
        raise Fault(f"{existing} cannot be read ({error.strerror})", elsewhere) from None
    if not existing.is_dir():
        raise Fault(f"{existing} is not a folder", elsewhere)
    if status.f_flag & os.ST_RDONLY:
        raise Fault(
            f"{existing} is on a read-only file system", f"mount it writable, or {elsewhere}"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise Fault(
            f"user {os.geteuid()} may not write to {existing}",
            f"change its owner or mode, or {elsewhere}",
        )
    if status.f_files and not status.f_favail:
        raise Fault(f"no file can be added in {existing}: no inode is free", "delete files there")
    detail = f"{free / GIB:.1f} GiB free in {existing}"
    if free < ROOM_BYTES:
        raise Fault(
            detail,
            f"free some space: with less than {ROOM_BYTES // _MIB} MiB the index is not written",
        )
    if free < GIB:
        raise Fault(detail, "free some space: the stored data grows", "warning")
    return detail
