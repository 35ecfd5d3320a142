"""Corpora come whole, with the contents that were pinned, from a real server on this machine."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.cli import app
from training.datasets import download
from training.datasets.download import (
    CorpusFile,
    FetchError,
    Manifest,
    corpora,
    fetch,
    fetch_all,
    load_manifest,
)
from training.recipe_files import load_recipe, recipe_path

REPOSITORY = Path(__file__).resolve().parents[3]
CONTENTS = bytes(range(256)) * 1000  # 256,000 bytes
HASH = hashlib.sha256(CONTENTS).hexdigest()


@dataclass
class Server:
    """Serves CONTENTS at every path.

    Attributes:
        breaks: how many answers break off, each after `piece` more bytes.
        refusals: statuses that are answered first.
        ranges: whether it can begin anywhere but at the beginning.
        asked: the `Range` of each request.
    """

    url: str = ""
    breaks: int = 0
    piece: int = 100_000
    refusals: list[int] = field(default_factory=list)
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    script = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            script.asked.append(wanted)
            if script.refusals:
                self.send_error(script.refusals.pop(0))
                return
            first = int(wanted.removeprefix("bytes=")[:-1]) if wanted and script.ranges else 0
            if first >= len(CONTENTS):
                self.send_error(416)
                return
            self.send_response(206 if wanted and script.ranges else 200)
            if wanted and script.ranges:
                size = len(CONTENTS)
                self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
            self.send_header("Content-Length", str(len(CONTENTS) - first))
            self.end_headers()
            if script.breaks:
                script.breaks -= 1
                self.wfile.write(CONTENTS[first : first + script.piece])
                self.close_connection = True
            else:
                self.wfile.write(CONTENTS[first:])

        def log_message(self, *_: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{listening.server_port}/corpus.csv"
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield script
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between attempts."""
    monkeypatch.setattr(download, "_PAUSE_S", 0.0)


def manifest(server: Server, sha256: str = HASH) -> Manifest:
    file = CorpusFile(path=Path("small/train.csv"), url=server.url, sha256=sha256)
    return Manifest(title="Small", home="http://home", licence="MIT", files=(file,))


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_file_stands_where_recipes_look_for_it(server: Server, tmp_path: Path) -> None:
    """The licence is said before anything is fetched."""
    messages: list[str] = []

    fetch(manifest(server), tmp_path, messages.append)

    assert (tmp_path / "small" / "train.csv").read_bytes() == CONTENTS
    assert names(tmp_path) == ["small/train.csv"]
    assert messages == [
        "Small, from http://home; licence: MIT",
        f"{tmp_path}/small/train.csv: fetched",
    ]


def test_file_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    """Nothing is asked of the server."""
    fetch(manifest(server), tmp_path, lambda _: None)
    server.asked.clear()

    fetch(manifest(server), tmp_path, lambda _: None)

    assert server.asked == []


def test_broken_connection_goes_on_where_it_broke(server: Server, tmp_path: Path) -> None:
    """Twice, and no byte is fetched twice."""
    server.breaks = 2

    fetch(manifest(server), tmp_path, lambda _: None)

    assert (tmp_path / "small" / "train.csv").read_bytes() == CONTENTS
    assert server.asked == [None, "bytes=100000-", "bytes=200000-"]


def test_next_call_goes_on_where_one_ended(server: Server, tmp_path: Path) -> None:
    """After a connection that broke again and again; the error says so."""
    server.breaks, server.piece = 4, 10_000
    with pytest.raises(FetchError, match=r"corpus\.csv: .*the same command resumes the download"):
        fetch(manifest(server), tmp_path, lambda _: None)
    assert names(tmp_path) == ["small/.train.csv.part"]

    fetch(manifest(server), tmp_path, lambda _: None)

    assert server.asked[-1] == "bytes=40000-"
    assert (tmp_path / "small" / "train.csv").read_bytes() == CONTENTS
    assert names(tmp_path) == ["small/train.csv"]


def test_server_without_ranges_sends_all_of_it_again(server: Server, tmp_path: Path) -> None:
    """What was there is not put before it."""
    server.breaks, server.ranges = 1, False

    fetch(manifest(server), tmp_path, lambda _: None)

    assert (tmp_path / "small" / "train.csv").read_bytes() == CONTENTS


def test_part_that_is_whole_is_taken_as_it_is(server: Server, tmp_path: Path) -> None:
    """The process was killed between the last byte and the new name."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / ".train.csv.part").write_bytes(CONTENTS)

    fetch(manifest(server), tmp_path, lambda _: None)

    assert names(tmp_path) == ["small/train.csv"]


def test_server_that_is_busy_is_asked_again(server: Server, tmp_path: Path) -> None:
    """Too many requests, or a fault of its own."""
    server.refusals = [429, 503]

    fetch(manifest(server), tmp_path, lambda _: None)

    assert len(server.asked) == 3


def test_other_contents_are_refused(server: Server, tmp_path: Path) -> None:
    """The error names both hashes, and nothing is left that a recipe could train on."""
    with pytest.raises(FetchError) as refused:
        fetch(manifest(server, sha256="0" * 64), tmp_path, lambda _: None)

    assert str(refused.value) == (
        f"{server.url}: sha256 is {HASH}, expected {'0' * 64}; the file was discarded"
    )
    assert names(tmp_path) == []


def test_another_file_in_the_way_is_left_alone(server: Server, tmp_path: Path) -> None:
    """Somebody's own version of the corpus."""
    own = tmp_path / "small" / "train.csv"
    own.parent.mkdir()
    own.write_text("mine")

    with pytest.raises(FetchError, match="exists with other contents"):
        fetch(manifest(server), tmp_path, lambda _: None)

    assert own.read_text() == "mine"


def test_missing_file_is_an_error_at_once(server: Server, tmp_path: Path) -> None:
    """Asking again would not help."""
    server.refusals = [404]

    with pytest.raises(FetchError, match=r"corpus\.csv: the server responds with 404"):
        fetch(manifest(server), tmp_path, lambda _: None)

    assert len(server.asked) == 1


def test_no_server_is_an_error_that_names_the_address(server: Server, tmp_path: Path) -> None:
    """After some attempts."""
    closed = manifest(server).files[0].model_copy(update={"url": "http://127.0.0.1:1/x.csv"})

    with pytest.raises(FetchError, match=r"http://127\.0\.0\.1:1/x\.csv: "):
        fetch(manifest(server).model_copy(update={"files": (closed,)}), tmp_path, lambda _: None)


def test_corpus_that_may_not_be_fetched_says_how_to_come_by_it(tmp_path: Path) -> None:
    """A form to sign, or a licence to agree to."""
    for name in ("iemocap", "dailydialog"):
        described = load_manifest(REPOSITORY / "data" / "corpora", name)

        with pytest.raises(
            FetchError, match=rf"cannot be downloaded automatically(.|\n)*folder\s`{name}`"
        ):
            fetch(described, tmp_path, lambda _: None)


def test_corpora_behind_one_that_may_not_be_fetched_are_fetched(
    server: Server, tmp_path: Path
) -> None:
    """What is left to do stands at the end, for each of them."""
    folder = REPOSITORY / "data" / "corpora"
    iemocap, dailydialog = (load_manifest(folder, name) for name in ("iemocap", "dailydialog"))
    messages: list[str] = []

    with pytest.raises(
        FetchError, match=r"IEMOCAP cannot be downloaded(.|\n)*DailyDialog cannot be"
    ):
        fetch_all([iemocap, manifest(server), dailydialog], tmp_path, messages.append)

    assert messages[-1].endswith(": fetched")


def test_steps_by_hand_name_the_command_that_comes_next(tmp_path: Path) -> None:
    """With the folder that was asked for: recipes read what it writes there."""
    described = load_manifest(REPOSITORY / "data" / "corpora", "iemocap")

    with pytest.raises(FetchError) as refused:
        fetch(described, tmp_path, lambda _: None)

    *_, command = str(refused.value).splitlines()
    program, *arguments = command.split()
    assert program == ".venv/bin/instructerc-train"
    assert arguments[:3] == ["data", "convert", f"{tmp_path}/iemocap"]
    result = CliRunner().invoke(app, arguments)
    assert f"{tmp_path}/iemocap: No such file" in result.output
    recipe = (REPOSITORY / "training" / "recipes" / "instructerc.yaml").read_text("utf-8")
    folder = Path(arguments[arguments.index("--out") + 1]).relative_to(tmp_path)
    assert all(f"path: {folder}/{s}.jsonl" in recipe for s in ("train", "dev", "test"))


def test_shipped_manifests_name_the_files_of_recipes() -> None:
    """At addresses that hold a commit."""
    folder = REPOSITORY / "data" / "corpora"
    manifests = {name: load_manifest(folder, name) for name in corpora(folder)}

    paths = {f.path.as_posix() for m in manifests.values() for f in m.files}
    for name in ("erc-mini", "erc-small"):
        assert {file.path.as_posix() for file in load_recipe(recipe_path(name)).corpora()} <= paths
    commits = [f.url.split("/")[5] for m in manifests.values() for f in m.files]
    assert all(len(commit) == 40 for commit in commits)


def test_command_fetches_several_corpora(server: Server, tmp_path: Path) -> None:
    """As their manifests say."""
    folder = tmp_path / "label-data" / "corpora"
    folder.mkdir(parents=True)
    for name in ("one", "two"):
        (folder / f"{name}.toml").write_text(
            f'title = "{name}"\nhome = "http://home"\nlicence = "MIT"\n'
            f'[[files]]\npath = "{name}.csv"\nurl = "{server.url}"\nsha256 = "{HASH}"\n'
        )

    result = CliRunner().invoke(
        app,
        [
            *("data", "fetch", "one", "two", "--data", str(tmp_path / "DATA")),
            *("--label-data", str(tmp_path / "label-data")),
        ],
    )

    assert result.exit_code == 0, result.output
    assert names(tmp_path / "DATA") == ["one.csv", "two.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "no.toml"),
        ('title = "x"\nhome = "y"\nlicence = "z"\n', "set either files or by_hand"),
        (
            'title = "x"\nhome = "y"\nlicence = "z"\n[[files]]\npath = "../x"\n'
            f'url = "http://h/x"\nsha256 = "{HASH}"\n',
            "is outside the data folder",
        ),
        (
            'title = "x"\nhome = "y"\nlicence = "z"\n[[files]]\npath = "x"\n'
            f'url = "ftp://h/x"\nsha256 = "{HASH}"\n',
            "URL scheme",
        ),
    ],
)
def test_manifest_that_is_none_is_refused(text: str, message: str, tmp_path: Path) -> None:
    """With the file's name and what is wrong."""
    (tmp_path / "no.toml").write_text(text)

    with pytest.raises(FetchError, match=message) as refused:
        load_manifest(tmp_path, "no")

    assert str(tmp_path / "no.toml") in str(refused.value)


def test_unknown_corpus_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    """One command line, one line of error."""
    result = CliRunner().invoke(app, ["data", "fetch", "melt", "--data", str(tmp_path)])

    assert result.exit_code == 2
    assert (
        "unknown corpus 'melt'; known are dailydialog, emorynlp, goemotions, iemocap, meld"
        in result.output
    )
