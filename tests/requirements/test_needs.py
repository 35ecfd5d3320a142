"""What is asked before the locks are installed."""

import ctypes
import os
import platform
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from requirements import needs

REPOSITORY = Path(__file__).resolve().parents[2]


def no_library(_name: str) -> None:
    raise OSError("libnuma.so.1: cannot open shared object file")


def no_name(_name: str) -> str:
    raise ValueError("unrecognized configuration name")


@pytest.mark.parametrize(
    ("place", "name", "value", "message"),
    [
        (platform, "system", lambda: "Darwin", "Linux is needed, this is Darwin"),
        (platform, "machine", lambda: "riscv64", "x86_64 or aarch64 is needed, this is riscv64"),
        (struct, "calcsize", lambda _: 4, "64-bit Python is needed"),
        (sysconfig, "get_config_var", lambda _: 1, "CPython, not free-threaded, is needed"),
        (
            os,
            "confstr",
            lambda _: "glibc 2.28",
            "glibc 2.31 or newer is needed, this is glibc 2.28",
        ),
        (os, "confstr", no_name, "this is another C library"),
        (ctypes, "CDLL", no_library, "apt install libnuma1"),
    ],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, place: Any, name: str, value: Callable[..., Any], message: str
) -> None:
    """With what to do about it, one line each."""
    monkeypatch.setattr(place, name, value)

    (line,) = needs.missing()

    assert message in line
    assert "\n" not in line


@pytest.mark.parametrize("version", ["glibc 2.31", "glibc 2.41", "glibc 3.0"])
def test_a_glibc_that_is_new_enough(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Compared as numbers: 2.4 is older than 2.31."""
    monkeypatch.setattr(os, "confstr", lambda _: version)

    assert not [*needs.missing()]


def test_an_older_one_with_a_greater_last_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "confstr", lambda _: "glibc 2.4")

    assert [*needs.missing()]


def test_here_nothing_is_missing() -> None:
    """As a script, which `make` runs."""
    done = subprocess.run(
        [sys.executable, "requirements/needs.py"], cwd=REPOSITORY, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_library_of_the_cpus_engine_is_not_missing_for_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", no_library)

    assert not [*needs.missing("gpu")]
