"""Files of a model folder, and what a failed download leaves in their place.

Weights are not read: of a safetensors file, only its length and its header.
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
    errno.ELOOP: "its links form a circle: replace them by the file that they were made for",
    errno.EISDIR: "remove it, and fetch or copy the file",
}
_BEGINNING_BYTES = 512  # of a file, for the check of its kind
_LENGTH_BYTES = 8  # at the start of a safetensors file: the length of its header
_LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
_LONGEST_QUOTE = 40  # characters
# Bytes per number; a tensor of another type is not checked.
_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}


class ModelFolderError(ValueError):
    """A folder holds no model that can be loaded. The message is the problem and the remedy.

    Attributes:
        problem: the file, and what is wrong with it.
        remedy: what to do about it.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's entry in a header."""

    dtype: str
    shape: tuple[int, ...]


def check_file(path: Path) -> None:
    """Check that a file exists, is readable, and does not begin like something else.

    Raises:
        ModelFolderError: it is missing, a folder, empty, a git-lfs pointer or a web page.
    """
    _beginning(path)


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        ModelFolderError: as `check_file`, or the content is not one JSON object.
    """
    _beginning(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unreadable(path, error) from None
    except JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise ModelFolderError(f"{path}: is not JSON: {where}: {error.msg}", AGAIN) from None
    except UnicodeDecodeError as error:
        raise ModelFolderError(f"{path}: is not UTF-8: byte {error.start}", AGAIN) from None
    except (ValueError, RecursionError):  # numbers of too many digits, too many brackets
        raise ModelFolderError(f"{path}: cannot be read as JSON", AGAIN) from None
    if not isinstance(content, dict):
        raise ModelFolderError(f"{path}: does not contain a JSON object", AGAIN)
    return content


def read_header(path: Path) -> tuple[Mapping[str, Tensor], int]:
    """Read the header of a safetensors file.

    Returns:
        Its tensors by name, and the file's size in bytes.

    Raises:
        ModelFolderError: as `check_file`, or the file is truncated or of another format.
    """
    beginning = _beginning(path)
    not_safetensors = ModelFolderError(
        f"{path}: is not a safetensors file{_quoted(beginning)}", AGAIN
    )
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if length > _LONGEST_HEADER or beginning[_LENGTH_BYTES : _LENGTH_BYTES + 1] != b"{":
                raise not_safetensors
            header = file.read(length)
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(header) < length:
        raise _cut_short(path, size, f"more than {_LENGTH_BYTES + length}")
    tensors, end = {}, 0
    try:
        for name, entry in json.loads(header).items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            tensors[name] = Tensor(str(entry["dtype"]), tuple(map(int, entry["shape"])))
            end = max(end, last)
            _check_byte_count(tensors[name], last - first)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise not_safetensors from None
    expected = _LENGTH_BYTES + length + end
    if size != expected:
        raise _cut_short(path, size, str(expected))
    return tensors, size


def _beginning(path: Path) -> bytes:
    """Read a file's first bytes, and check that it does not begin like something else."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder, not a file")
        if not stat.S_ISREG(mode):  # to open a pipe is to wait
            raise ModelFolderError(f"{path}: is not a regular file", "fetch or copy the file")
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from None
    text = beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not beginning:
        raise ModelFolderError(f"{path}: is empty: its download or copy was interrupted", AGAIN)
    if text.startswith(b"version https://git-lfs"):
        raise ModelFolderError(
            f"{path}: is a git-lfs pointer, not the file itself",
            "fetch the file: `git lfs pull` in that repository, or `hf download`",
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        raise ModelFolderError(
            f"{path}: is a web page that was saved instead of the file",
            "fetch the file itself with `hf download`; the page may ask for a login or for "
            "consent to a licence",
        )
    return beginning


def _unreadable(path: Path, error: OSError) -> ModelFolderError:
    if path.is_symlink() and isinstance(error, FileNotFoundError):
        return ModelFolderError(
            f"{path}: is a link to {path.readlink()}, which does not exist",
            "fetch the model again, or copy it together with the files that its links point to "
            "(cp -L)",
        )
    remedy = _REMEDIES.get(error.errno or 0, "correct what the operating system reports")
    return ModelFolderError(f"{path}: {error.strerror or error}", remedy)


def _cut_short(path: Path, size: int, whole: str) -> ModelFolderError:
    return ModelFolderError(
        f"{path}: has {size} bytes of {whole}: its download or copy was interrupted", AGAIN
    )


def _check_byte_count(tensor: Tensor, byte_count: int) -> None:
    """Check that a tensor's dtype and shape take `byte_count` bytes.

    Raises:
        ValueError: they do not.
    """
    size = _SIZES.get(tensor.dtype)
    if size is not None and prod(tensor.shape) * size != byte_count:
        raise ValueError


def _quoted(beginning: bytes) -> str:
    """Quote the first line of a file that should be weights, if it is text, such as an error."""
    try:
        line = beginning.decode("ascii").strip().splitlines()[0][:_LONGEST_QUOTE]
    except (UnicodeDecodeError, IndexError):
        return ""
    return f": it says {line!r}" if line.isprintable() else ""
