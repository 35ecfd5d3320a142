"""What stands in the way of a start is said in one line."""

import json
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.conftest import BUNDLE, environment


def serve(folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `instructerc serve` until it ends by itself."""
    return run(folder, "serve", **changes)


def run(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `instructerc` until it ends."""
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        cwd=folder,
        env=environment(folder) | changes,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("variable", "value", "cause"),
    [
        ("ERC_MOOD", "good", "unknown settings: ERC_MOOD"),
        ("ERC_PORT", "eighty", "ERC_PORT: "),
        (
            "ERC_DATABASE",
            "hunter2",
            "ERC_DATABASE is not a setting by itself: the settings in it are ERC_DATABASE__",
        ),
        ("ERC_DATABASE__URL", "", "ERC_DATABASE__URL: is empty: give it a value, or unset it"),
        ("ERC_DATABASE__URL", "sqlite:////dev", "the SQLite file /dev is a folder"),
        ("ERC_DATABASE__URL", "sqlite:////dev/null/x", "because /dev/null is not a folder"),
        ("ERC_DATA", "nowhere", "nowhere/label_spaces has no unified.toml"),
        ("ERC_BUNDLE", "nowhere", "nowhere: there is no such folder; name the folder of a bundle"),
        ("ERC_DATABASE__URL", "mysql://user:hunter2@host/name", "ERC_DATABASE__URL: "),
        ("ERC_HOST", "0.0.0.0", "no keys: set ERC_KEYS_FILE"),
        ("ERC_KEYS_FILE", "nowhere.toml", "cannot read nowhere.toml: No such file"),
        ("ERC_DEMONSTRATIONS__FILE", "nowhere.jsonl", "nowhere.jsonl"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_its_cause(
    tmp_path: Path, variable: str, value: str, cause: str
) -> None:
    """Exit status 2, one line, no traceback and no password."""
    done = serve(tmp_path, **{variable: value})

    assert done.returncode == 2
    assert cause in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "hunter2" not in done.stderr + done.stdout


def test_a_bundle_without_weights_is_refused(tmp_path: Path) -> None:
    """The description alone is no model."""
    (tmp_path / "bundle.json").write_bytes((BUNDLE / "bundle.json").read_bytes())

    done = serve(tmp_path, ERC_BUNDLE=str(tmp_path))

    assert done.returncode == 2
    assert "contains no weights" in done.stderr


@pytest.mark.parametrize("level", ["debug", "error"])
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_why_the_database_is_not_reached_is_the_last_line(
    tmp_path: Path, command: str, form: str, level: str
) -> None:
    """At every level and in each form, once, and without the password."""
    done = run(
        tmp_path,
        command,
        ERC_DATABASE__URL="postgresql://ann:hunter2@127.0.0.1:1/erc",
        ERC_LOG_FORMAT=form,
        ERC_LOG_LEVEL=level,
    )

    told = (
        "nothing listens at PostgreSQL at 127.0.0.1:1: check that it is running; "
        "check ERC_DATABASE__URL"
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    if form == "json":
        line = json.loads(last)
        assert line["level"] == "critical"
        assert "error" not in line
        last = line["message"]
    assert last.endswith(told)
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_database_of_a_newer_version_is_refused(tmp_path: Path, command: str) -> None:
    """Its tables are left as they are."""
    assert run(tmp_path, "migrate").returncode == 0
    with closing(sqlite3.connect(tmp_path / "erc.sqlite3")) as connection, connection:
        connection.execute("UPDATE sessions_version SET version_num = '9999'")

    done = run(tmp_path, command)

    assert done.returncode == 2
    assert "are of a newer version of this program: start that version" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_the_index_lacks_is_the_last_line(tmp_path: Path, form: str) -> None:
    """A Qdrant server that is away, with what the outside says."""
    done = run(
        tmp_path,
        "index",
        ERC_QDRANT__URL="http://ann:hunter2@127.0.0.1:1",
        ERC_LOG_FORMAT=form,
    )

    assert done.returncode == 2
    assert "127.0.0.1:1" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_cannot_be_scored_is_the_last_line(tmp_path: Path, form: str) -> None:
    done = run(tmp_path, "score", "away.jsonl", "out.jsonl", ERC_LOG_FORMAT=form)

    assert done.returncode == 2
    assert "away.jsonl" in done.stderr.splitlines()[-1]
    assert form == "text" or json.loads(done.stderr.splitlines()[-1])["level"] == "critical"
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_told_in_json_too(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        number = taken.getsockname()[1]
        done = run(tmp_path, "serve", ERC_PORT=str(number), ERC_LOG_FORMAT="json")

    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert json.loads(line)["message"].startswith(f"cannot listen on 127.0.0.1:{number}: Address")
