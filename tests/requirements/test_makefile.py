"""`make` takes a Python that the locks are for, and says so where there is none."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.requirements.test_locks import PYTHONS, REPOSITORY


def put(python: Path, version: str | None) -> None:
    """A command that says it is of a version, or, as pyenv's for one that is not chosen, fails."""
    python.parent.mkdir(parents=True, exist_ok=True)
    says = f'[ "$1" = -c ] && echo {version}' if version else "exit 127"
    python.write_text(f"#!/bin/sh\n{says}\n")
    python.chmod(0o755)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where commands are looked for: what recipes need, and no Python."""
    for command in ("sh", "sed", "echo"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / command).symlink_to(shutil.which(command) or command)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(shutil.which("make") or "make", "--no-print-directory"),
            *("-f", REPOSITORY / "Makefile", "--eval", "chosen:;@echo $(PYTHON) $(INSTALLED)"),
            *("VENV=.venv", *arguments),
        ],
        cwd=folder,
        env={"PATH": str(folder / "bin")},
        capture_output=True,
        text=True,
    )


def chosen(folder: Path, *arguments: str) -> str:
    done = make(folder, "chosen", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("first", range(len(PYTHONS)))
def test_the_oldest_is_preferred(folder: Path, first: int) -> None:
    """As the shipped model and the figures were made with it."""
    for version in PYTHONS[first:]:
        put(folder / "bin" / f"python{version}", version)

    assert chosen(folder) == f"python{PYTHONS[first]} .venv/.installed-{PYTHONS[first]}"


def test_the_one_that_has_no_version_in_its_name(folder: Path) -> None:
    put(folder / "bin/python3", PYTHONS[1])

    assert chosen(folder) == f"python3 .venv/.installed-{PYTHONS[1]}"


def test_one_that_does_not_run_is_passed_over(folder: Path) -> None:
    """pyenv has a command for every version, and runs those that are chosen."""
    put(folder / "bin" / f"python{PYTHONS[0]}", None)
    put(folder / "bin" / f"python{PYTHONS[1]}", PYTHONS[1])

    assert chosen(folder).startswith(f"python{PYTHONS[1]} ")


def test_the_one_of_the_environment_that_is_there_is_kept(folder: Path) -> None:
    """Whatever else is on the machine, nothing is installed twice."""
    put(folder / "bin" / f"python{PYTHONS[0]}", PYTHONS[0])
    put(folder / ".venv/bin/python", PYTHONS[1])
    (folder / ".venv/bin/pip").touch()

    assert chosen(folder) == f".venv/bin/python .venv/.installed-{PYTHONS[1]}"


@pytest.mark.parametrize(
    ("version", "pip"),
    [
        pytest.param("3.9", True, id="too old"),
        pytest.param(None, True, id="gone with the system's update"),
        pytest.param(PYTHONS[1], False, id="half made"),
    ],
)
def test_an_environment_that_cannot_be_used_is_made_anew(
    folder: Path, version: str | None, pip: bool
) -> None:
    """With a Python of the machine's."""
    python = folder / "bin" / f"python{PYTHONS[1]}"
    put(python, PYTHONS[1])
    put(folder / ".venv/bin/python", version)
    if pip:
        put(folder / ".venv/bin/pip", version)

    assert chosen(folder).startswith(f"python{PYTHONS[1]} ")
    (making,) = [line for line in recipe(folder) if "-m venv" in line]
    # The line makes it only where what is there is not of that version; a fake says what it ran.
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && echo {PYTHONS[1]} || echo "$@"\n')
    done = subprocess.run(
        ["sh", "-c", making], cwd=folder, env={"PATH": str(folder / "bin")}, capture_output=True
    )
    assert done.stdout.decode().split() == ["-m", "venv", "--clear", ".venv"]


def recipe(folder: Path, *arguments: str) -> list[str]:
    """What `make install` would run, were the locks here."""
    (folder / "requirements").mkdir(exist_ok=True)
    for file in ("torch-cpu.txt", "locked.txt", "locked-gpu.txt"):
        (folder / "requirements" / file).touch()
    (folder / "pyproject.toml").touch()
    done = make(folder, "--dry-run", "install", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("\\\n", " ").splitlines()


def test_a_machine_with_a_gpu_has_a_lock_of_its_own(folder: Path) -> None:
    """An environment for a CPU is not mixed with it, and once it is there it is what is used."""
    put(folder / "bin" / f"python{PYTHONS[0]}", PYTHONS[0])
    put(folder / ".venv/bin/python", PYTHONS[0])
    (folder / ".venv/bin/pip").touch()
    (folder / f".venv/.installed-{PYTHONS[0]}").touch()

    lines = recipe(folder, "FLAVOUR=gpu")

    (making,) = [line for line in lines if "-m venv" in line]
    assert f'test -z ".venv/.installed-{PYTHONS[0]}"' in making
    assert any("-r requirements/locked-gpu.txt" in line for line in lines)
    assert not any("locked.txt" in line for line in lines)
    (folder / f".venv/.installed-{PYTHONS[0]}").unlink()
    complete = folder / f".venv/.installed-gpu-{PYTHONS[0]}"
    complete.touch()
    os.utime(complete, (2e9, 2e9))
    assert chosen(folder).endswith(f" .venv/.installed-gpu-{PYTHONS[0]}")
    assert not [line for line in recipe(folder) if "-m venv" in line]
    assert any("-r requirements/locked.txt" in line for line in recipe(folder, "FLAVOUR=cpu"))


def test_another_one_that_is_named_is_installed_for(folder: Path) -> None:
    """Though an environment of one Python is complete."""
    for version in PYTHONS[:2]:
        put(folder / "bin" / f"python{version}", version)
    put(folder / ".venv/bin/python", PYTHONS[0])
    (folder / ".venv/bin/pip").touch()
    recipe(folder)
    complete = folder / f".venv/.installed-{PYTHONS[0]}"
    complete.touch()
    os.utime(complete, (2e9, 2e9))

    assert not [line for line in recipe(folder) if "-m venv" in line]
    named = recipe(folder, f"PYTHON=python{PYTHONS[1]}")
    assert [line for line in named if f"python{PYTHONS[1]} -m venv --clear .venv" in line]


@pytest.mark.parametrize("named", ["PYTHON=python3.9", "PYTHON=/nowhere/python3.12", ""])
def test_where_there_is_none_the_three_are_named(folder: Path, named: str) -> None:
    """Before anything is made or fetched."""
    put(folder / "bin/python3.9", "3.9")
    put(folder / "bin/python3", "3.9")
    recipe(folder)

    done = make(folder, "install", *filter(None, [named]))

    assert done.returncode == 2
    (line, _) = done.stdout.splitlines() + done.stderr.splitlines()
    assert line.startswith(f"Python {', '.join(PYTHONS[:-1])}, or {PYTHONS[-1]} is needed")
    assert line.endswith(f"name one: make PYTHON=/path/to/python{PYTHONS[-1]}")
    assert not (folder / ".venv").exists()


def served(folder: Path, *arguments: str) -> str:
    """What `make serve` would run where two models ship, one of them on a packaged base."""
    for model, base in (("erc-mini", "minilm-causal"), ("erc-small", "smollm2-135m")):
        adapter = folder / "data" / "adapters" / model
        adapter.mkdir(parents=True)
        described = {"name": model, "base": {"name": base, "revision": "1"}, "template": "v2"}
        (adapter / "bundle.json").write_text(json.dumps(described, indent=2))
    put(folder / "bin" / f"python{PYTHONS[0]}", PYTHONS[0])
    for file in (
        *("requirements/torch-cpu.txt", "requirements/locked.txt", "requirements/smollm2-135m.txt"),
        *("training/finetuning/bases.py", "training/finetuning/minilm.py"),
        *("training/finetuning/merge.py", "pyproject.toml"),
    ):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    done = make(folder, "--dry-run", "serve", *arguments)
    return done.stdout + done.stderr


def test_the_default_model_needs_no_packages_of_its_own(folder: Path) -> None:
    """What another model's base is made of is not downloaded."""
    ran = served(folder)

    assert "smollm2" not in ran
    assert "base build/base/minilm-causal" in ran
    assert "ERC_BUNDLE" not in ran


def test_a_model_that_is_named_is_merged_into_its_own_base_and_served(folder: Path) -> None:
    """The base's packages come first; a bundle that the environment names is served instead."""
    ran = served(folder, "MODEL=erc-small")

    steps = (
        "-r requirements/smollm2-135m.txt",
        "base build/base/smollm2-135m",
        "merge data/adapters/erc-small --base build/base/smollm2-135m",
        'ERC_BUNDLE="${ERC_BUNDLE:-build/bundles/erc-small}" exec',
    )
    places = [ran.find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)


def test_a_model_that_does_not_ship_is_refused(folder: Path) -> None:
    """With the names of those that do."""
    assert "erc-tiny: is none of the shipped models (erc-mini erc-small)" in served(
        folder, "MODEL=erc-tiny"
    )
