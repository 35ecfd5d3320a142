"""What the driver says, by libraries that stand in for NVIDIA's."""

import ctypes
from typing import Any

import pytest
import torch
from vllm.platforms import current_platform
from vllm.platforms.interface import DeviceCapability

from service.decoding.gpu import driver_fault
from service.decoding.in_process import EngineOptions, start_engine
from service.decoding.precision import compute_type
from service.errors import EngineUnavailable


class Cuda:
    """libcuda, of a driver that runs this version of CUDA."""

    def __init__(self, version: int) -> None:
        self._version = version

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802, its name
        version._obj.value = self._version
        return 0


class Nvml:
    """libnvidia-ml."""

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, _length: int) -> int:  # noqa: N802
        text.value = b"550.54.15"
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        return 0


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Libraries by name; torch is a build for CUDA 13."""
    libraries: dict[str, Any] = {"libnvidia-ml.so.1": Nvml()}
    real = ctypes.CDLL

    def load(name: str, *arguments: Any) -> Any:
        if not name.startswith(("libcuda.so", "libnvidia-ml.so")):
            return real(name, *arguments)
        if name not in libraries:
            raise OSError(f"{name}: cannot open shared object file")
        return libraries[name]

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    return libraries


@pytest.mark.parametrize("version", [13000, 13010, 14000])
def test_a_driver_that_is_new_enough(version: int, installed: dict[str, Any]) -> None:
    """Of the same major version or a later one; also a package of forward compatibility."""
    installed["libcuda.so.1"] = Cuda(version)

    assert driver_fault() is None


def test_an_older_driver_is_named_with_what_is_needed(installed: dict[str, Any]) -> None:
    installed["libcuda.so.1"] = Cuda(12040)

    assert driver_fault() == (
        "the NVIDIA driver 550.54.15 is for CUDA 12.4, and torch "
        f"{torch.__version__} is built for CUDA 13.0",
        "install a driver of branch R580 or newer",
    )


def test_a_machine_without_a_driver(installed: dict[str, Any]) -> None:
    fault = driver_fault()

    assert fault is not None
    assert fault[0].startswith("there is no NVIDIA driver (libcuda.so.1)")


def test_torch_for_cpus_needs_none(
    installed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)

    assert driver_fault() is None


async def test_the_engine_does_not_start_on_an_older_driver(
    installed: dict[str, Any], tmp_path: Any
) -> None:
    """With the reason, before it loads anything; its own process would only end."""
    installed["libcuda.so.1"] = Cuda(12040)

    with pytest.raises(EngineUnavailable, match="branch R580 or newer"):
        await start_engine(tmp_path, max_tokens=64, options=EngineOptions())


@pytest.mark.parametrize(("capability", "computed"), [((8, 0), "bfloat16"), ((7, 5), "float32")])
def test_a_gpu_is_asked_without_a_context(
    capability: tuple[int, int], computed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch would put one on the GPU, in the service's process, beside the engine's."""

    def initialise(*_: Any) -> bool:
        raise AssertionError("torch is asked")

    monkeypatch.setattr("torch.cuda.is_bf16_supported", initialise)
    monkeypatch.setattr(
        type(current_platform), "get_device_capability", lambda *_: DeviceCapability(*capability)
    )

    assert compute_type(device="cuda") == computed
