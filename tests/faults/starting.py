"""Services that start in half the time, for tests that start many."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.conftest import REPOSITORY, START_S, Service, environment


class Starter:
    """A process that starts services; they end with it."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.starter"],
            cwd=REPOSITORY,
            env=environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, settings: dict[str, str], folder: Path, output: Path) -> "Started":
        asked, told = self.process.stdin, self.process.stdout
        assert asked is not None
        assert told is not None
        start = {"environment": settings, "folder": str(folder), "output": str(output)}
        print(json.dumps(start), file=asked, flush=True)
        return Started(int(told.readline()), output)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Started:
    """A process that a starter has started, used as one of `subprocess`."""

    pid: int
    output: Path

    def send_signal(self, number: signal.Signals) -> None:
        psutil.Process(self.pid).send_signal(number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        status = self.output.with_suffix(".status")
        return int(status.read_text()) if status.exists() else None

    def wait(self, timeout: float = 60) -> int:
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("instructerc serve", timeout)
            time.sleep(0.02)
        return status

    def said(self) -> list[str]:
        if not self.output.exists():
            return []
        return self.output.read_text().splitlines(keepends=True)


@dataclass
class QuickService(Service):
    """A service that a starter starts."""

    starter: Starter
    starts: Any = field(default_factory=count)

    def start(self) -> None:
        output = self.folder / f"output-{next(self.starts)}.txt"
        started = self.starter.start(self.environment, self.folder, output)
        self.process = started  # type: ignore[assignment]
        deadline = time.monotonic() + START_S
        while not (found := re.search(r"ready at (\S+),.*\ncurl ", "".join(self.output))):
            if time.monotonic() > deadline or started.poll() is not None:
                pytest.fail("the service did not start:\n" + "".join(self.output))
            time.sleep(0.05)
        self.url = found[1]
        self.client = httpx.Client(base_url=self.url, timeout=60)

    @property
    def output(self) -> list[str]:  # type: ignore[override]
        return self.process.said()  # type: ignore[attr-defined]
