"""The compute type: bfloat16 where the machine supports it natively, else float32.

Where it has none, torch and vLLM emulate bfloat16, and neither says so: on two cores of an AMD
Zen 3 scoring takes 12 times as long as in float32, a training step 30 times. torch's and oneDNN's
own answers, whether bfloat16 is supported, are yes in both cases.
"""

import os
from typing import Literal

ComputeType = Literal["bfloat16", "float32"]
Choice = Literal["auto", "bfloat16", "float32"]

# As torch.cpu.get_capabilities() calls them: x86's two, and Arm's two.
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
# What oneDNN can be told to use at most (https://uxlfoundation.github.io/oneDNN/, "CPU dispatcher
# control"), of that what has no product of bfloat16.
_WITHOUT = {
    *("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"),
    *("AVX512_CORE", "AVX512_CORE_VNNI"),
}
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


def device_type() -> str:
    """Where torch computes: "cuda" if it sees a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def multiplies_bfloat16(device: str) -> bool:
    """Whether a device has instructions for products of bfloat16, and oneDNN may use them.

    Args:
        device: as torch names its type: "cpu", "cuda".
    """
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    limit = next((os.environ[name] for name in _LIMITS if os.environ.get(name)), "")
    able = torch.cpu.get_capabilities()
    return limit.upper() not in _WITHOUT and any(able.get(name) for name in _INSTRUCTIONS)


def compute_type(asked: Choice = "auto", device: str | None = None) -> ComputeType:
    """What to compute in: what is asked for, or what the device multiplies.

    Args:
        device: the type of the device; None: what torch computes on.
    """
    if asked != "auto":
        return asked
    return "bfloat16" if multiplies_bfloat16(device or device_type()) else "float32"


def in_words(computed: ComputeType, device: str) -> str:
    """The type, and what a device makes of bfloat16, for people."""
    native = multiplies_bfloat16(device)
    if computed == "bfloat16":
        return "native bfloat16" if native else "bfloat16, which is emulated here, and slow"
    return "float32" if native else "float32, as there is no native bfloat16"
