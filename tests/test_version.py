"""What `--version` prints."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["version"]

HEAVY = {"fastapi", "numpy", "sqlalchemy", "torch", "transformers", "vllm"}


@pytest.mark.parametrize("module", ["service.cli", "training.cli"])
def test_each_command_says_its_version(module: str) -> None:
    """As `pyproject.toml` has it, on one line."""
    told = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True
    )

    assert (told.stdout, told.stderr) == (f"instructerc {VERSION}\n", "")


def test_the_version_needs_no_heavy_library() -> None:
    """So it is told at once."""
    commands = (
        "import sys, runpy\n"
        "sys.argv = ['instructerc', '--version']\n"
        "try:\n    runpy.run_module('service.cli', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(*sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", commands], capture_output=True, text=True, check=True
    )

    assert not HEAVY & set(told.stdout.split())
