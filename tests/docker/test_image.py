"""The Dockerfile says what `install.sh` does, and nothing that the service does not know."""

import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from service.access.keyring import is_loopback
from service.settings import Settings, load_settings

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = REPOSITORY / "docker"
BIN = Path(sys.executable).parent


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, with what is said of each on one line."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines) if word
    ]


def last(instruction: str) -> str:
    return [rest for word, rest in instructions() if word == instruction][-1]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in last("ENV").split())


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the service reads in a container where nothing else is set."""
    import os

    for name in list(os.environ):
        if name.startswith("ERC_"):
            monkeypatch.delenv(name)
    for name, value in environment().items():
        if name.startswith("ERC_"):
            monkeypatch.setenv(name, value)
    return load_settings()


@pytest.mark.parametrize(
    "command",
    [
        ["hadolint", "docker/Dockerfile"],
        ["shellcheck", "docker/install.sh"],
    ],
)
def test_linters_find_nothing(command: list[str]) -> None:
    """Neither in the Dockerfile nor in its script."""
    if platform.machine() != "x86_64" and not (BIN / command[0]).exists():
        pytest.skip(f"the lock has no {command[0]} for {platform.machine()}")
    done = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=REPOSITORY, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_bases_are_pinned() -> None:
    """By tag, to be read, and digest, to be had; every stage has the same one."""
    bases = {rest.split(" AS ")[0] for word, rest in instructions() if word == "FROM"}
    images = [r.split("=", 1)[1] for w, r in instructions() if w == "ARG" and "_IMAGE=" in r]

    assert bases == {"${PYTHON_IMAGE}"}
    (image,) = images
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", image)


def test_everything_is_done_by_the_script() -> None:
    """Each step of it is taken, so what a test does with them is what an image is made of."""
    runs = " ".join(rest for word, rest in instructions() if word == "RUN")

    assert re.findall(r"install\.sh (\w+)", runs) == [
        "dependencies",
        "service",
        "model",
        "packages",
    ]
    assert not re.findall(r"\b(?:pip|apt-get|curl|wget)\b", runs)


def test_what_is_copied_is_let_into_the_build() -> None:
    """And nothing else is: a key or a database never gets into an image by oversight."""
    lines = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    nothing, *let_in = [
        line.lstrip("!") for line in lines if line[0] not in "#" and "__" not in line
    ]
    model = dict(rest.split("=") for word, rest in instructions() if "MODEL=" in rest)["MODEL"]
    copied = {
        model if source == "${MODEL}" else source
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }

    assert nothing == "*"
    for place in copied:
        assert any(f"{each}/".startswith(place) or place.startswith(each) for each in let_in), place
    for each in let_in:
        assert any(each.startswith(place) or model.startswith(each) for place in copied), each


def test_the_container_is_not_root() -> None:
    """By number, which Kubernetes needs to see it; the chart runs it as the same user."""
    assert last("USER") == "10001:10001"


def test_the_service_knows_every_variable_and_is_reached(settings: Settings) -> None:
    """From outside the container; on the port that is exposed."""
    assert not is_loopback(settings.host)
    assert last("EXPOSE") == str(settings.port)


def test_what_is_kept_lies_outside_the_read_only_root(settings: Settings) -> None:
    """In one folder, for a volume; what the image holds lies in another."""
    kept = Path("/var/lib/instructerc")

    assert settings.database.url.get_secret_value() == f"sqlite:///{kept}/erc.sqlite3"
    assert settings.demonstrations.folder.parent == kept
    assert {settings.bundle.parent, settings.data.parent} == {Path("/opt/instructerc")}
    assert environment()["HOME"] == "/tmp"


def test_the_images_have_the_version_of_the_project() -> None:
    """Where it is written, in compose files and in the Dockerfile's own example."""
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"][
        "version"
    ]

    for file in (DOCKER / "Dockerfile", DOCKER / "compose.yaml", DOCKER / "compose.gpu.yaml"):
        versions = set(re.findall(r"instructerc:(\d+\.\d+\.\d+)", file.read_text("utf-8")))
        assert versions == {version}, file.name
