"""What is killed changes nothing of the result, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("ray", reason="scoring on a cluster needs the extra `cluster`")

from service import offline
from service.dialogue_files import Reading
from service.scored_files import Output
from tests.broken_folders import ROOT
from tests.cluster.stand_in import KILLS, UNREADABLE, open_stand_in, settings_of_stand_in

DIALOGUES = 160
LONGEST_S = 600


def line(name: str, *texts: str) -> str:
    utterances = [{"speaker": "AB"[n % 2], "text": text} for n, text in enumerate(texts)]
    return json.dumps({"id": name, "utterances": utterances}) + "\n"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files, with a line that is no dialogue in the second."""
    folder = tmp_path_factory.mktemp("archive")
    lines = [line(f"d{n}", f"Number {n} rings.", "Who?", "Me!") for n in range(DIALOGUES)]
    (folder / "a.jsonl").write_text("".join(lines[:100]))
    (folder / "b.jsonl").write_text("".join([*lines[100:110], '{"id": 7}\n', *lines[110:]]))
    return folder


class Run:
    """A job in a process of its own.

    Attributes:
        pids: the folder where its actors leave their numbers.
    """

    def __init__(self, source: Path, target: Path, pids: Path, **environment: str) -> None:
        pids.mkdir(exist_ok=True)
        self.target, self.pids = target, pids
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.stand_in", source, target, pids],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/service/client", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def parts(self) -> list[Path]:
        return [*(self.target.parent / f".{self.target.name}.parts").glob("part-*.jsonl")]

    def wait_for(self, happens: Callable[[], object]) -> None:
        end = time.monotonic() + LONGEST_S
        while not happens():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.05)

    def output(self) -> str:
        return self.process.communicate(timeout=LONGEST_S)[0]

    def actors(self) -> list[psutil.Process]:
        """Those that have opened their parts, and what they have started."""
        actors = [psutil.Process(int(path.name)) for path in self.pids.iterdir()]
        return [*actors, *(child for each in actors for child in each.children(recursive=True))]

    def processes(self) -> list[psutil.Process]:
        """Of Ray and of its actors."""
        return [*psutil.Process(self.process.pid).children(recursive=True)]


@contextmanager
def run(source: Path, target: Path, pids: Path, **environment: str) -> Iterator[Run]:
    job = Run(source, target, pids, **environment)
    try:
        yield job
    finally:
        if job.process.poll() is None:
            job.process.terminate()
            job.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def undisturbed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("undisturbed")
    with run(archive, folder / "out.jsonl", folder / "pids") as job:
        output = job.output()
    assert job.process.returncode == 0, output
    assert [path.name for path in folder.iterdir() if path.name != "pids"] == ["out.jsonl"]
    return (folder / "out.jsonl").read_bytes()


async def test_the_result_is_that_of_files_scored_here(
    archive: Path, undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files one after another, each line in its place."""
    settings = settings_of_stand_in()
    monkeypatch.setattr(
        offline, "open_parts", lambda *_, **__: open_stand_in(settings, tmp_path, True)
    )
    lines = b""
    for name in ("a.jsonl", "b.jsonl"):
        target = tmp_path / name
        await offline.score_file(
            settings,
            archive / name,
            target,
            "meld",
            lambda _: None,
            tmp_path,
            True,
            Reading(),
            Output.JSONL,
        )
        lines += target.read_bytes()

    assert undisturbed == lines
    assert lines.count(b"\n") == DIALOGUES + 1


def test_what_a_killed_actor_held_is_scored_by_another(
    archive: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    with run(archive, tmp_path / "out.jsonl", tmp_path / "pids") as job:
        job.wait_for(lambda: len(job.parts()) >= 2)
        first = next(job.pids.iterdir())
        os.kill(int(first.name), signal.SIGKILL)
        output = job.output()

    assert job.process.returncode == 0, output
    assert "an actor has died" in output
    assert (tmp_path / "out.jsonl").read_bytes() == undisturbed


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_job_that_has_ended_is_taken_up_again(
    archive: Path, undisturbed: bytes, tmp_path: Path, number: signal.Signals
) -> None:
    """It leaves no actor, and the next scores only what is missing."""
    target = tmp_path / "out.jsonl"
    with run(archive, target, tmp_path / "pids") as job:
        job.wait_for(lambda: len(job.parts()) >= 2)
        # Ray's own agents notice in their time that a command was killed.
        processes = job.actors() if number is signal.SIGKILL else job.processes()
        job.process.send_signal(number)
        job.output()
    assert job.process.returncode != 0
    assert processes
    assert not psutil.wait_procs(processes, timeout=60)[1]
    assert not target.exists()
    kept = {path: path.stat().st_mtime_ns for path in job.parts()}

    with run(archive, target, tmp_path / "pids") as again:
        again.wait_for(lambda: len(again.parts()) > len(kept))
        assert kept.items() <= {path: path.stat().st_mtime_ns for path in again.parts()}.items()
        output = again.output()

    assert again.process.returncode == 0, output
    assert f"{len(kept)} parts are kept" in output
    assert target.read_bytes() == undisturbed
    assert not (tmp_path / ".out.jsonl.parts").exists()


def test_a_dialogue_that_cannot_be_scored_is_a_row_with_its_error(tmp_path: Path) -> None:
    """Whether its engine refuses it or it kills actors; its neighbours are scored."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    names = [f"d{n}" for n in range(10)]
    texts = ["We won!"] * 10
    texts[3], texts[6] = f"A {KILLS}!", f"A {UNREADABLE}!"
    source.write_text("".join(map(line, names, texts)))

    with run(source, target, tmp_path / "pids", STAND_IN_PAUSE_S="0") as job:
        output = job.output()

    assert job.process.returncode == 0, output
    rows: list[dict[str, Any]] = [*map(json.loads, target.read_text("utf-8").splitlines())]
    assert [row.get("id") for row in rows] == [
        None if name in ("d3", "d6") else name for name in names
    ]
    assert rows[3] == {"error": "dialogue 'd3': actors die of it, 3 that had it alone"}
    assert rows[6] == {"error": "dialogue 'd6': the label engine failed"}
