"""Files of a model's folder, and what a failed download leaves in their place.

Nothing here reads weights: of a file of safetensors, its length and its header.
"""

import errno
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from json import JSONDecodeError
from math import prod
from pathlib import Path
from typing import Any

AGAIN = "fetch or copy the file again"

# By error number of the operating system.
_REMEDIES = {
    errno.ENOENT: AGAIN,
    errno.EACCES: "let whoever runs this read it",
    errno.EPERM: "let whoever runs this read it",
    errno.ELOOP: "its links lead in a circle: copy what they were made for in their place",
    errno.EISDIR: "remove it, and fetch or copy the file",
}
_LOOKED_AT = 512  # bytes of a file's beginning
_LENGTH_BYTES = 8  # of a file of safetensors: how long the header is that follows
_LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
_LONGEST_QUOTE = 40  # characters
# Bytes of a number; a type that is not among these is not measured.
_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}


class ModelFolderError(ValueError):
    """A folder that holds no model which can be loaded.

    Attributes:
        problem: which file, and what is wrong with it.
        remedy: what to do; the message is both.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]


def check_file(path: Path) -> None:
    """See that a file is there, can be read, and is what its name says as far as its start tells.

    Raises:
        ModelFolderError: it is missing, a folder, empty, or a pointer or a page in its place.
    """
    _beginning(path)


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        ModelFolderError: as `check_file`, or it holds none.
    """
    _beginning(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unreadable(path, error) from None
    except JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise ModelFolderError(f"{path}: is not JSON: {where}: {error.msg}", AGAIN) from None
    except UnicodeDecodeError as error:
        raise ModelFolderError(f"{path}: is not UTF-8: byte {error.start}", AGAIN) from None
    except (ValueError, RecursionError):  # numbers of too many digits, too many brackets
        raise ModelFolderError(f"{path}: is JSON that cannot be read", AGAIN) from None
    if not isinstance(found, dict):
        raise ModelFolderError(f"{path}: holds no JSON object", AGAIN)
    return found


def read_header(path: Path) -> tuple[Mapping[str, Tensor], int]:
    """What a file of safetensors says that it holds, and the bytes that it has.

    Raises:
        ModelFolderError: as `check_file`, or it is cut short or of another kind.
    """
    beginning = _beginning(path)
    no_safetensors = ModelFolderError(f"{path}: is no file of safetensors{_said(beginning)}", AGAIN)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if length > _LONGEST_HEADER or beginning[_LENGTH_BYTES : _LENGTH_BYTES + 1] != b"{":
                raise no_safetensors
            header = file.read(length)
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(header) < length:
        raise _cut_short(path, size, f"more than {_LENGTH_BYTES + length}")
    tensors, end = {}, 0
    try:
        for name, each in json.loads(header).items():
            if name == "__metadata__":
                continue
            first, last = each["data_offsets"]
            tensors[name] = Tensor(str(each["dtype"]), tuple(map(int, each["shape"])))
            end = max(end, last)
            _check_measure(tensors[name], last - first)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise no_safetensors from None
    whole = _LENGTH_BYTES + length + end
    if size != whole:
        raise _cut_short(path, size, str(whole))
    return tensors, size


def _beginning(path: Path) -> bytes:
    """The first bytes of a file that may be what its name says."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder, and no file")
        if not stat.S_ISREG(mode):  # to open a pipe is to wait
            raise ModelFolderError(f"{path}: is no regular file", "fetch or copy the file")
        with path.open("rb") as file:
            found = file.read(_LOOKED_AT)
    except OSError as error:
        raise _unreadable(path, error) from None
    text = found.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not found:
        raise ModelFolderError(f"{path}: is empty: its download or copy broke off", AGAIN)
    if text.startswith(b"version https://git-lfs"):
        raise ModelFolderError(
            f"{path}: is a pointer of git-lfs, and not the file itself",
            "fetch the file: `git lfs pull` in that repository, or `hf download`",
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        raise ModelFolderError(
            f"{path}: is a web page that was saved in place of the file",
            "fetch the file itself, with `hf download`; a page asks for a login or a licence",
        )
    return found


def _unreadable(path: Path, error: OSError) -> ModelFolderError:
    if path.is_symlink() and isinstance(error, FileNotFoundError):
        return ModelFolderError(
            f"{path}: is a link to {path.readlink()}, which is not there",
            "fetch the model again, or copy it with what its links lead to (cp -L)",
        )
    remedy = _REMEDIES.get(error.errno or 0, "mend what the operating system says")
    return ModelFolderError(f"{path}: {error.strerror or error}", remedy)


def _cut_short(path: Path, size: int, whole: str) -> ModelFolderError:
    return ModelFolderError(
        f"{path}: has {size} bytes of {whole}: its download or copy broke off", AGAIN
    )


def _check_measure(tensor: Tensor, measured: int) -> None:
    """
    Raises:
        ValueError: so many numbers of this type do not take so many bytes.
    """
    size = _SIZES.get(tensor.dtype)
    if size is not None and prod(tensor.shape) * size != measured:
        raise ValueError


def _said(beginning: bytes) -> str:
    """What a file that should be weights says, where it is text: a hub's error, say."""
    try:
        line = beginning.decode("ascii").strip().splitlines()[0][:_LONGEST_QUOTE]
    except (UnicodeDecodeError, IndexError):
        return ""
    return f": it says {line!r}" if line.isprintable() else ""
