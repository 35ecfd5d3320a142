"""The disk is full, and has room again."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Service, environment
from tests.faults.conftest import whole_batch

DISK_MIB = 128
LABEL = {"label": "joy", "label_space": "meld"}
# In a name space of its own, where anybody may mount.
OWN_DISK = (
    *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c"),
    f'mount -t tmpfs -o size={DISK_MIB}m tmpfs "$0" && exec "$@"',
)


@dataclass
class ServiceOnADisk(Service):
    """A service whose folder is a small disk that nobody else sees."""

    def launch(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*OWN_DISK, str(self.folder), sys.executable, "-m", "service.cli", "serve"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def filler(self) -> Path:
        return Path(f"/proc/{self.process.pid}/root{self.folder}/filler")

    def fill_the_disk(self) -> None:
        file = os.open(self.filler, os.O_WRONLY | os.O_CREAT)
        size = 2**20
        while size:
            try:
                os.write(file, bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
        os.close(file)

    def free_the_disk(self) -> None:
        self.filler.unlink()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[ServiceOnADisk]:
    if shutil.which("unshare") is None:
        pytest.skip("unshare(1), of util-linux, is not there")
    tried = subprocess.run([*OWN_DISK, str(tmp_path), "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no disk can be mounted in a name space of its own: {tried.stderr}")
    service = ServiceOnADisk(tmp_path, environment(tmp_path))
    service.start()
    yield service
    if service.process.poll() is None:
        service.process.kill()
        service.process.wait()


def post(service: Service, text: str) -> tuple[int, Any]:
    answer = service.client.post(
        "/dialogues/call/utterances",
        json={"speaker": "Ann", "text": text},
        headers={"Idempotency-Key": text.replace(" ", "-")},
    )
    if answer.status_code == 503:
        assert answer.headers["retry-after"]
    return answer.status_code, answer.json()


def show(service: Service, text: str) -> httpx.Response:
    body = {"demonstrations": [LABEL | {"text": text}]}
    return service.client.post("/demonstrations", json=body)


def test_a_full_disk_refuses_what_is_to_be_kept_and_costs_nothing(small: ServiceOnADisk) -> None:
    """Writes are refused with 503 and the process stays; what needs no room is answered as ever;
    once there is room, it goes on, and each utterance that was acknowledged is there once.
    """
    kept = [f"line {n}" for n in range(20)]
    assert {post(small, text)[0] for text in kept} == {201}
    assert show(small, "Hip, hip!").status_code == 201

    small.fill_the_disk()
    refused = [post(small, f"refused {n}") for n in range(5)]
    corrected = small.client.put("/dialogues/call/utterances/3/label", json=LABEL)
    erased = small.client.delete("/dialogues/call")
    shown = show(small, "Hooray!")
    job = small.client.post("/batch", json=whole_batch(50), headers={"Prefer": "respond-async"})
    read = small.client.get("/dialogues/call")
    scored = small.client.post("/batch", json=whole_batch(50))
    alive = small.client.get("/livez")

    assert [(status, body.get("type")) for status, body in refused] == [
        (503, "/problems/database-unavailable")
    ] * 5
    assert (corrected.status_code, erased.status_code, job.status_code) == (503, 503, 503)
    assert shown.json()["type"] == "/problems/demonstrations-unavailable"
    assert [each["text"] for each in read.json()["utterances"]] == kept
    assert (scored.status_code, alive.status_code) == (200, 200)

    small.free_the_disk()
    kept += ["refused 0", "more"]
    assert [post(small, text)[0] for text in kept[-2:]] == [201, 201]
    assert small.client.put("/dialogues/call/utterances/3/label", json=LABEL).status_code == 200
    assert show(small, "Hooray!").status_code == 201
    stored = small.client.get("/dialogues/call").json()["utterances"]
    assert [each["text"] for each in stored] == kept
    assert small.client.get("/readyz").json()["degraded"] == []

    small.fill_the_disk()
    assert small.stop() == 0
