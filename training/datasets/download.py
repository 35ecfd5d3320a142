"""Fetches corpora from their public homes, as `data/corpora/*.toml` names them.

Every file has a pinned address and a hash, so what arrives is what the project was built on. A
download that broke off goes on where it ended.
"""

import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NoReturn, Self

import httpx
from pydantic import (
    AnyHttpUrl,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from tqdm import tqdm

from service.files import place_of_file
from training.datasets.fingerprint import fingerprint

Report = Callable[[str], None]

_ATTEMPTS = 4  # connections to one file that may break
_PAUSE_S = 1.0  # before the second attempt; twice as long before each next one
_TIMEOUT = httpx.Timeout(30.0)

_Url = Annotated[str, Field(min_length=1)]
_url = TypeAdapter(AnyHttpUrl)


class FetchError(ValueError):
    """A corpus cannot be fetched; the message names the file or the address, and what to do."""


class _NoAnswer(Exception):
    """The server cannot answer at the moment."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CorpusFile(_Section):
    """A file of a corpus.

    Attributes:
        path: relative to the data folder, where recipes look for it.
        url: where its authors publish it, at a commit that stays as it is.
    """

    path: Path
    url: _Url
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    @field_validator("url")
    @classmethod
    def is_an_address(cls, url: str) -> str:
        _url.validate_python(url)
        return url

    @field_validator("path")
    @classmethod
    def stays_in_the_folder(cls, path: Path) -> Path:
        if path.is_absolute() or ".." in path.parts:
            raise ValueError("is outside the data folder")
        return path


class Manifest(_Section):
    """A corpus: its files, or how a person comes by it.

    Attributes:
        by_hand: what to do where the corpus may not be fetched; `{data}` in it is the data folder.
    """

    title: str
    home: str
    licence: str
    files: tuple[CorpusFile, ...] = ()
    by_hand: str | None = None

    @model_validator(mode="after")
    def has_files_or_says_how_to_come_by_them(self) -> Self:
        if bool(self.files) == bool(self.by_hand):
            raise ValueError("set either files or by_hand")
        return self


def corpora(folder: Path) -> list[str]:
    """Names of the corpora that a folder of manifests describes."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def load_manifest(folder: Path, name: str) -> Manifest:
    """Read the manifest of a corpus.

    Raises:
        FetchError: there is none of that name, or it is not a manifest.
    """
    known = corpora(folder)
    if name not in known:
        raise FetchError(f"unknown corpus {name!r}; known are {', '.join(known)}")
    path = folder / f"{name}.toml"
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise FetchError(f"{path}: {error}") from None


def fetch_all(manifests: Sequence[Manifest], data: Path, report: Report) -> None:
    """Fetch corpora, as `fetch` does, and say at the end how to come by those that cannot be.

    Raises:
        FetchError, OSError: as `fetch`, or some cannot be fetched; the others are there then.
    """
    left = []
    for manifest in manifests:
        if (steps := _by_hand(manifest, data)) is None:
            fetch(manifest, data, report)
        else:
            left.append(steps)
    if left:
        raise FetchError("\n\n".join(left))


def fetch(manifest: Manifest, data: Path, report: Report) -> None:
    """Have a corpus's files in the data folder, those that are there already left alone.

    A file stands under its name only when it is whole and its hash is right; until then it is
    beside it as `.NAME.part`, from where the next call goes on.

    Raises:
        FetchError: no answer, a refusal, other contents than expected, or another file in the way.
        OSError: a file cannot be written.
    """
    if (steps := _by_hand(manifest, data)) is not None:
        raise FetchError(steps)
    report(f"{manifest.title}, from {manifest.home}; licence: {manifest.licence}")
    with httpx.Client(follow_redirects=True, timeout=_TIMEOUT) as client:
        for file in manifest.files:
            target = data / file.path
            if target.exists():
                sha256 = fingerprint(target)
                if sha256 != file.sha256:
                    raise FetchError(
                        f"{target} exists with other contents (sha256 {sha256}, expected "
                        f"{file.sha256}); move it away, or name another folder"
                    )
                report(f"{target}: exists")
                continue
            place_of_file(target).parent.mkdir(parents=True, exist_ok=True)
            _fetch_file(client, file, target)
            report(f"{target}: fetched")


def _by_hand(manifest: Manifest, data: Path) -> str | None:
    """How to come by a corpus that may not be fetched."""
    if manifest.by_hand is None:
        return None
    steps = manifest.by_hand.strip().replace("{data}", str(data))
    return f"{manifest.title} cannot be downloaded automatically.\n{steps}"


def _fetch_file(client: httpx.Client, file: CorpusFile, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    pause = _PAUSE_S
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _go_on(client, file.url, part)
            break
        except (httpx.TransportError, _NoAnswer) as error:
            if attempt == _ATTEMPTS:
                raise FetchError(
                    f"{file.url}: {error or type(error).__name__}; the same command resumes the "
                    "download"
                ) from None
            time.sleep(pause)
            pause *= 2
    sha256 = fingerprint(part)
    if sha256 != file.sha256:
        part.unlink()
        raise FetchError(
            f"{file.url}: sha256 is {sha256}, expected {file.sha256}; the file was discarded"
        )
    part.replace(target)


def _go_on(client: httpx.Client, url: str, part: Path) -> None:
    """Add to a part what is missing of it, or all of it where the server cannot begin there."""
    have = part.stat().st_size if part.exists() else 0
    # Ranges count the bytes that are sent, so they must not be compressed.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing; the hash tells whether that is so
        if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise _NoAnswer(f"the server responds with {answer.status_code}")
        if not answer.is_success:
            raise FetchError(f"{url}: the server responds with {answer.status_code}")
        goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
        before = have if goes_on else 0
        if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise FetchError(f"{url}: the server returned another range than requested")
        length = answer.headers.get("Content-Length")
        with (
            place_of_file(part).open("ab" if goes_on else "wb") as out,
            _progress(part.stem, before, None if length is None else before + int(length)) as bar,
        ):
            for chunk in answer.iter_raw():
                out.write(chunk)
                bar.update(len(chunk))


def _progress(name: str, before: int, total: int | None) -> "tqdm[NoReturn]":
    """A bar on stderr where that is a terminal, and nothing in a log."""
    return tqdm(desc=name, initial=before, total=total, unit="B", unit_scale=True, disable=None)
