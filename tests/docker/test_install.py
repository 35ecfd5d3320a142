"""What an image is made of, made in a clean folder and run from there."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.docker.test_image import BIN, REPOSITORY, environment, instructions
from tests.e2e.conftest import BUNDLE, START_S

# What pip is told of package indexes, uv is to know.
_TOLD = {"PIP_FIND_LINKS": "UV_FIND_LINKS", "PIP_CERT": "SSL_CERT_FILE"}


def clean() -> dict[str, str]:
    """An environment that knows nothing of this checkout."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ERC_", "PYTHON", "VIRTUAL"))}
    return kept | {told: os.environ[name] for name, told in _TOLD.items() if name in os.environ}


def copy_what_the_build_copies(source: Path) -> None:
    """The files of the Dockerfile's first stage, and no others."""
    stage: list[list[list[str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            stage.append([])
        elif word == "COPY":
            stage[-1].append(rest.split())
    for *copied, target in stage[0]:
        for name in copied:
            origin, place = REPOSITORY / name, source / target
            if origin.is_dir():
                shutil.copytree(
                    origin, place, ignore=shutil.ignore_patterns("__pycache__", "adapters")
                )
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(origin, place)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that becomes /opt/instructerc, made by the image's script."""
    folder = tmp_path_factory.mktemp("image")
    source, target = folder / "source", folder / "instructerc"
    source.mkdir()
    copy_what_the_build_copies(source)
    tools = {"UV": str(BIN / "uv"), "PYTHON": sys.executable}
    for step in (["dependencies", "cpu", str(target)], ["service", str(target)]):
        done = subprocess.run(
            [source / "docker" / "install.sh", *step],
            env=clean() | tools,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    return target


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_an_unknown_step_or_flavour_is_refused() -> None:
    """Before anything is installed."""
    script = REPOSITORY / "docker" / "install.sh"

    for arguments, message in ((["everything", "cpu"], "everything"), (["packages", "tpu"], "tpu")):
        done = subprocess.run([script, *arguments], capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert message in done.stderr


@pytest.mark.parametrize(("flavour", "left_out"), [("cpu", set()), ("api", {"model.safetensors"})])
def test_the_image_without_vllm_has_the_bundle_without_weights(
    tmp_path: Path, flavour: str, left_out: set[str]
) -> None:
    """Everything else of it, from which prompts are made, is there."""
    shutil.copytree(BUNDLE, tmp_path / "bundle")
    script = REPOSITORY / "docker" / "install.sh"
    subprocess.run([script, "model", flavour, tmp_path], check=True, timeout=120)

    there, before = ({path.name for path in f.iterdir()} for f in (tmp_path / "bundle", BUNDLE))
    assert before - there == left_out


def test_the_service_runs_from_what_is_installed(installed: Path, tmp_path: Path) -> None:
    """With the image's variables: it is ready, answers, ends with 0, and writes nothing there."""
    before = files(installed)
    state = tmp_path / "state"
    state.mkdir()
    port = free_port()
    image = {
        name: value.replace("/opt/instructerc", str(installed))
        .replace("/var/lib/instructerc", str(state))
        .replace("${PATH}", os.environ["PATH"])
        for name, value in environment().items()
    }
    own = {
        "ERC_HOST": "127.0.0.1",
        "ERC_PORT": str(port),
        "ERC_BUNDLE": str(BUNDLE),
        "HOME": str(tmp_path),
        "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled"),  # an image's are made with it
    }
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [installed / "venv/bin/instructerc", "serve"],
            cwd=state,
            env=clean() | image | own,
            stdout=out,
            stderr=out,
        )
    try:
        health = [installed / "venv/bin/python", installed / "health.py"]
        deadline = time.monotonic() + START_S
        while subprocess.run(health, env=own, capture_output=True).returncode:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(1)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/dialogues/a/utterances",
            json.dumps({"speaker": "Ann", "text": "We won!", "label_space": "meld"}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["emotion"]["label"] == "joy"
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)

    assert status == 0, log.read_text()
    assert files(installed) == before
    assert {path.name for path in state.iterdir()} >= {"erc.sqlite3", "demonstrations"}


def test_a_service_that_is_away_is_not_well(installed: Path) -> None:
    """The check ends with 1 and says why."""
    done = subprocess.run(
        [installed / "venv/bin/python", installed / "health.py"],
        env={"ERC_PORT": str(free_port())},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert "refused" in done.stdout
