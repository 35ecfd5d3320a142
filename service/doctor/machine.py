"""Checks of the machine and of vLLM's data type on it."""

import os
import platform

from service.decoding.gpu import driver_fault
from service.decoding.precision import EngineChoice, engine_type, in_words, multiplies_bfloat16
from service.doctor.findings import Fault
from service.environment import set_up_vllm
from service.memory import memory_bytes

GIB = 2**30
# What `make serve` needs with the shipped model and its cache of 1 GiB.
_LEAST_MEMORY_BYTES = 3 * GIB


def machine() -> str:
    """Check Python, the system, its C library, cores and memory."""
    system, architecture = platform.system(), platform.machine()
    library, version = platform.libc_ver()
    cores, memory = len(os.sched_getaffinity(0)), memory_bytes()
    detail = (
        f"Python {platform.python_version()}, {system} {architecture}, "
        f"{library or 'no glibc'} {version}".rstrip()
        + f", {cores} core{'s' if cores > 1 else ''}, {memory / GIB:.1f} GiB of memory"
    )
    if (system, architecture) != ("Linux", "x86_64"):
        has_packages = system == "Linux" and architecture == "aarch64"
        reason = (
            "packages for this machine exist, but nobody has tried it"
            if has_packages
            else "nobody has tried another machine"
        )
        raise Fault(detail, f"run it on Linux (x86-64): {reason}", "warning")
    if library != "glibc":
        raise Fault(detail, "run it on a system with glibc, so not on Alpine", "warning")
    if memory < _LEAST_MEMORY_BYTES:
        raise Fault(
            detail,
            f"give it at least {_LEAST_MEMORY_BYTES / GIB:.0f} GiB: the smallest model with "
            "ERC_ENGINE__KV_CACHE_GIB=1 needs that much",
            "warning",
        )
    return detail


def precision(choice: EngineChoice = "auto") -> str:
    """Check the engine's data type, and whether the machine multiplies it natively.

    Args:
        choice: the setting `ERC_ENGINE__DTYPE`.
    """
    set_up_vllm()
    try:
        import torch

        if (fault := driver_fault()) is not None:
            raise Fault(*fault)
        import vllm
        from vllm.platforms import current_platform
    except (ImportError, OSError) as error:
        raise Fault(
            f"vLLM cannot be imported: {error}",
            "install requirements/cpu.txt or, with a GPU, requirements/gpu.txt",
        ) from None
    version, device = f"vLLM {vllm.__version__}", current_platform.device_type
    if device != "cpu":
        where = str(current_platform.get_device_name())
    elif torch.cuda.is_available():
        raise Fault(
            f"{version} is for CPUs, but the machine has a GPU, {torch.cuda.get_device_name()}",
            "install requirements/gpu.txt to use it",
            "warning",
        )
    else:
        name = torch.cpu.get_capabilities().get("cpu_name", "of an unknown kind")
        where = f"the CPU ({name})"
    dtype = engine_type(choice, device)
    detail = f"{version} on {where}, {in_words(dtype, device)}"
    if dtype == "bfloat16" and not multiplies_bfloat16(device):
        raise Fault(detail, "unset ERC_ENGINE__DTYPE", "warning" if device == "cpu" else "failed")
    return detail
