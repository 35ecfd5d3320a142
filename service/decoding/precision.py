"""The compute type: bfloat16 if the machine supports it natively, else float32.

Without native support torch and vLLM silently emulate bfloat16: on two cores of an AMD Zen 3
scoring takes 12 times as long as in float32, a training step 30 times. torch and oneDNN report
bfloat16 as supported in both cases.
"""

import os
from typing import Literal

from service.decoding import gpu

ComputeType = Literal["bfloat16", "float32"]
Choice = Literal["auto", "bfloat16", "float32"]
# The engine's: float16 is for GPUs and checkpoints that have nothing better.
EngineType = Literal["bfloat16", "float16", "float32"]
EngineChoice = Literal["auto", "bfloat16", "float16", "float32"]

# Names from torch.cpu.get_capabilities(): two of x86, two of Arm.
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
# Limits of oneDNN's instruction set (https://uxlfoundation.github.io/oneDNN/, "CPU dispatcher
# control") that exclude products of bfloat16.
_WITHOUT = {
    *("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"),
    *("AVX512_CORE", "AVX512_CORE_VNNI"),
}
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


def device_type() -> str:
    """The device torch computes on: "cuda" if it sees a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def multiplies_bfloat16(device: str) -> bool:
    """Whether a device has instructions for products of bfloat16, and oneDNN may use them.

    Args:
        device: as torch names its type: "cpu", "cuda".
    """
    import torch

    if device == "cuda":
        # torch would make a CUDA context, some hundred MiB of the GPU, which the engine's process
        # needs and the service's does not.
        has_context: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        native = None if has_context else gpu.multiplies_bfloat16()
        return bool(torch.cuda.is_bf16_supported(False)) if native is None else native
    limit = next((os.environ[name] for name in _LIMITS if os.environ.get(name)), "")
    capabilities = torch.cpu.get_capabilities()
    return limit.upper() not in _WITHOUT and any(capabilities.get(name) for name in _INSTRUCTIONS)


def compute_type(asked: Choice = "auto", device: str | None = None) -> ComputeType:
    """The compute type: `asked`, or for "auto" the one that the device supports natively.

    Args:
        device: the type of the device; None: the one that torch computes on.
    """
    if asked != "auto":
        return asked
    return "bfloat16" if multiplies_bfloat16(device or device_type()) else "float32"


def engine_type(asked: EngineChoice, device: str | None = None) -> EngineType:
    """The engine's compute type; see `compute_type`."""
    return asked if asked == "float16" else compute_type(asked, device)


def in_words(computed: EngineType, device: str) -> str:
    """Describe a compute type, and the device's support of bfloat16, for people."""
    if computed == "float16":
        return "float16"
    native = multiplies_bfloat16(device)
    if computed == "bfloat16":
        return "native bfloat16" if native else "bfloat16, which is emulated and slow"
    return "float32" if native else "float32, because bfloat16 is not native"
