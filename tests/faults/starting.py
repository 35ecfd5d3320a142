"""Services that start in half the time, for tests that start many."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, cast

import psutil

from tests.e2e.conftest import REPOSITORY, Service, environment

_numbers = count()


class Starter:
    """A process that starts services; they end with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.starter"],
            cwd=REPOSITORY,
            env=environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, settings: dict[str, str], folder: Path) -> "Started":
        stdin, told = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert told is not None
        output = self.folder / f"output-{next(_numbers)}"
        status = output.with_suffix(".status")
        os.mkfifo(output)
        start = {
            "environment": settings,
            "folder": str(folder),
            "output": str(output),
            "status": str(status),
        }
        print(json.dumps(start), file=stdin, flush=True)
        return Started(int(told.readline()), output.open(), status)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Started:
    """A process that a starter has started, with what is used of `subprocess.Popen`.

    Attributes:
        status: a file that has the exit status, once there is one.
    """

    pid: int
    stdout: IO[str]
    status: Path

    def send_signal(self, number: signal.Signals) -> None:
        psutil.Process(self.pid).send_signal(number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        return int(self.status.read_text()) if self.status.exists() else None

    def wait(self, timeout: float = 60) -> int:
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("instructerc serve", timeout)
            time.sleep(0.02)
        return status


@dataclass
class QuickService(Service):
    """A service that a starter starts."""

    starter: Starter

    def launch(self) -> subprocess.Popen[str]:
        return cast(subprocess.Popen[str], self.starter.start(self.environment, self.folder))
