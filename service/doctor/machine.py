"""The machine, and what vLLM computes with on it."""

import os
import platform
from pathlib import Path

from service.doctor.findings import Fault

GIB = 2**30
# What `make serve` takes with the shipped model and its cache of 1 GiB.
_LEAST_MEMORY_BYTES = 3 * GIB


def machine() -> str:
    """Python, the system, its C library, cores and memory."""
    system, architecture = platform.system(), platform.machine()
    library, version = platform.libc_ver()
    cores, memory = len(os.sched_getaffinity(0)), _memory_bytes()
    found = (
        f"Python {platform.python_version()}, {system} {architecture}, "
        f"{library or 'no glibc'} {version}".rstrip()
        + f", {cores} core{'s' if cores > 1 else ''}, {memory / GIB:.1f} GiB of memory"
    )
    if (system, architecture) != ("Linux", "x86_64"):
        there = system == "Linux" and architecture == "aarch64"
        but = (
            "there are packages for this, but it was not tried"
            if there
            else "nothing else was tried"
        )
        raise Fault(found, f"run it on Linux (x86-64): {but}", "warning")
    if library != "glibc":
        raise Fault(found, "run it where libraries are built for glibc, not on Alpine", "warning")
    if memory < _LEAST_MEMORY_BYTES:
        raise Fault(
            found,
            f"give it {_LEAST_MEMORY_BYTES / GIB:.0f} GiB or more: the smallest model with "
            "ERC_ENGINE__KV_CACHE_GIB=1 takes as much",
            "warning",
        )
    return found


def _memory_bytes() -> int:
    """What this process may take: the machine's, or its control group's."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            found = min(found, int((Path("/sys/fs/cgroup") / limit).read_text("ascii")))
        except (OSError, ValueError):  # the other version of control groups, or "max"
            continue
    return found


def precision() -> str:
    """Whether what the engine runs on has bfloat16 of its own."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        import torch
        import vllm
        from vllm.platforms import current_platform
    except (ImportError, OSError) as error:
        raise Fault(
            f"vLLM cannot be imported: {error}",
            "install requirements/cpu.txt or, with a GPU, requirements/gpu.txt",
        ) from None
    version = f"vLLM {vllm.__version__}"
    if not current_platform.is_cpu():
        found = f"{version} on {current_platform.get_device_name()}"
        if torch.bfloat16 in current_platform.supported_dtypes:
            return f"{found}, bfloat16 native"
        raise Fault(f"{found} has no bfloat16", "take a GPU of compute capability 8.0 or newer")
    if torch.cuda.is_available():
        raise Fault(
            f"{version} is for CPUs, and there is a GPU, {torch.cuda.get_device_name()}",
            "install requirements/gpu.txt to use it",
            "warning",
        )
    able = torch.cpu.get_capabilities()
    found = f"{version} on the CPU ({able.get('cpu_name', 'of an unknown kind')})"
    if able.get("amx_bf16") or able.get("avx512_bf16"):
        return f"{found}, bfloat16 native"
    raise Fault(
        f"{found}, which has no bfloat16 of its own: it is emulated",
        "expect slower answers, or take a CPU with AVX512-BF16 or AMX, or a GPU",
        "warning",
    )
