"""The service as its users meet it: a process on a port, with the real model behind it."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLE = REPOSITORY / "build" / "bundles" / "erc-mini"
START_S = float(os.environ.get("ERC_TEST_START_S", "240"))  # cores that others use too


@dataclass
class Service:
    """A running `instructerc serve`, and a client that talks to it."""

    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[str] = field(init=False)
    output: list[str] = field(init=False)
    client: httpx.Client = field(init=False)
    url: str = field(init=False)

    def launch(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def start(self) -> None:
        self.output = []
        self.process = self.launch()
        ready = threading.Event()
        threading.Thread(target=self._follow, args=(ready,), daemon=True).start()
        deadline = time.monotonic() + START_S
        while not ready.wait(0.2):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                pytest.fail("the service did not start:\n" + "".join(self.output))
        match = re.search(r"ready at (\S+),", "".join(self.output))
        assert match is not None
        self.url = match[1]
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def _follow(self, ready: threading.Event) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if "curl " in line:
                ready.set()

    def kill(self) -> None:
        """End it as a power cut would: no handler runs. Its engine must not outlive it."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.client.close()
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive, f"these outlived the service: {alive}"

    def stop(self) -> int:
        """Ask it to end, as Kubernetes does; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self.client.close()
        return status

    def say(self, dialogue: str, speaker: str, text: str, label_space: str = "meld") -> Any:
        """Post an utterance and expect an answer."""
        answer = self.client.post(
            f"/dialogues/{dialogue}/utterances",
            json={"speaker": speaker, "text": text, "label_space": label_space},
        )
        assert answer.status_code == 201, answer.text
        return answer.json()


def environment(folder: Path) -> dict[str, str]:
    """Settings of a service that keeps everything in a folder."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("ERC_")}
    return inherited | {
        "ERC_PORT": "0",
        "ERC_BUNDLE": str(BUNDLE),
        "ERC_DATABASE__URL": f"sqlite:///{folder}/erc.sqlite3",
        "ERC_DEMONSTRATIONS__FOLDER": str(folder / "demonstrations"),
        "PYTHONPATH": str(REPOSITORY),
    }


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the tests that leave it as they found it."""
    folder = tmp_path_factory.mktemp("service")
    running = Service(folder, environment(folder))
    running.start()
    yield running
    if running.process.poll() is None:
        running.stop()
