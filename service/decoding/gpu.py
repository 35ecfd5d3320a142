"""What the driver of an NVIDIA GPU says of itself, without a CUDA context in this process."""

import ctypes

# The oldest driver branch for each major version of CUDA: drivers run programs of their own major
# version and of earlier ones (https://docs.nvidia.com/deploy/cuda-compatibility/).
_BRANCHES = {12: 525, 13: 580}


def driver_fault() -> tuple[str, str] | None:
    """Why torch's build cannot run on this machine's driver, and the remedy; None if it can."""
    import torch

    built = torch.version.cuda
    if built is None:
        return None
    major = int(built.partition(".")[0])
    needed = f"torch {torch.__version__} is built for CUDA {built}"
    remedy = f"install a driver of branch R{_BRANCHES.get(major, 580)} or newer"
    supported = _supported_cuda()
    if supported is None:
        return f"there is no NVIDIA driver (libcuda.so.1), and {needed}", remedy
    if supported[0] >= major:
        return None
    newest = ".".join(map(str, supported))
    return f"the NVIDIA driver {_driver_version()} is for CUDA {newest}, and {needed}", remedy


def multiplies_bfloat16() -> bool | None:
    """Whether the GPU multiplies bfloat16, by NVML; None if vLLM is not built for it."""
    from vllm.platforms import current_platform

    if current_platform.is_rocm():
        return True
    capability = current_platform.get_device_capability()
    return None if capability is None else bool(capability.major >= 8)


def _supported_cuda() -> tuple[int, int] | None:
    """The newest version of CUDA that the driver runs; None if there is no driver.

    As torch asks. NVML would not count a package of forward compatibility.
    """
    version = ctypes.c_int()
    try:
        status = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return None if status else (version.value // 1000, version.value % 1000 // 10)


def _driver_version() -> str:
    try:
        library, text = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.create_string_buffer(80)
        library.nvmlInit_v2()
        try:
            library.nvmlSystemGetDriverVersion(text, len(text))
        finally:
            library.nvmlShutdown()
    except (OSError, AttributeError):
        return "(of an unknown version)"
    return text.value.decode("ascii", "replace")
