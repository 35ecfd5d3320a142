"""What `pip install instructerc` brings: the client, and no more."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.generation import REPOSITORY

PACKAGES = ("instructerc", "service", "training")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("service", "training"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    # The setuptools that is installed builds it: nothing is fetched.
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(out)]
    subprocess.run([*pip, *options, str(source)], check=True)
    (wheel,) = out.glob("instructerc-*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Python of an environment where only the wheel is installed."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, str(wheel)], check=True)
    yield python
    shutil.rmtree(folder)


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Not in the repository, whose packages would be found."""
    return subprocess.run(
        [str(python), "-I", *arguments], cwd=python.parent, capture_output=True, text=True
    )


def test_the_wheel_has_every_package_and_its_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert {"instructerc/models.py", "service/cli.py", "service/api/swagger_ui/LICENSE"} <= names
    assert not {name for name in names if name.startswith("tests")}


def test_the_client_is_there_and_what_the_service_needs_is_not(python: Path) -> None:
    program = (
        "from importlib.util import find_spec\n"
        "from instructerc import AsyncClient, Client, models\n"
        "Client('http://127.0.0.1:8000').close()\n"
        "heavy = 'torch', 'vllm', 'numpy', 'fastapi', 'sqlalchemy', 'typer', 'transformers'\n"
        "print(*filter(find_spec, heavy))"
    )

    done = run(python, "-c", program)

    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


@pytest.mark.parametrize("command", ["instructerc", "instructerc-train"])
def test_a_command_says_what_to_install(python: Path, command: str) -> None:
    """On a line for each use, and without a traceback."""
    done = subprocess.run(
        [str(python.parent / command), "--help"],
        cwd=python.parent,
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{command}: the package '")
    for extra in ("cpu", "gpu", "service", "training"):
        assert f"pip install 'instructerc[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
