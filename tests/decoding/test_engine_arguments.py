"""What vLLM is started with, here and where there is a GPU."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.platforms.interface import DeviceCapability

from service.decoding.engine import Priority
from service.decoding.engine_arguments import (
    _REFUSED,
    _SETTINGS,
    EngineOptions,
    attention_backend,
    check_further,
    engine_arguments,
)
from service.decoding.in_process import start_engine
from service.errors import EngineUnavailable
from service.settings import settings_table

BUNDLE = Path(__file__).resolve().parents[2] / "build" / "bundles" / "erc-mini"
HOPPER, BLACKWELL, BLACKWELL_DESKTOP = (9, 0), (10, 0), (12, 0)


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have vLLM's platform say that it is one of CUDA."""

    def say(capability: tuple[int, int] = HOPPER, gpus: int = 1) -> None:
        platform = type(current_platform)  # which has no count of devices, unlike CUDA's
        answers: dict[str, Any] = {
            "is_cpu": False,
            "device_count": gpus,
            "get_device_capability": DeviceCapability(*capability),
        }
        for name, answer in answers.items():
            monkeypatch.setattr(platform, name, lambda *_, answer=answer: answer, raising=False)

    return say


def arguments(**options: Any) -> AsyncEngineArgs:
    return engine_arguments(BUNDLE, 512, EngineOptions(**options), "bfloat16", 0)


def test_a_step_of_a_gpu_is_as_large_as_vllms_server_makes_it(
    on_a_gpu: Callable[..., None],
) -> None:
    """A library's engine would compute a quarter of that, and wait in between."""
    on_a_gpu()

    assert arguments().max_num_batched_tokens == 8192
    assert arguments(step_tokens=1000).max_num_batched_tokens == 1000
    assert arguments().block_size is arguments().distributed_executor_backend is None
    assert not arguments().enforce_eager


def test_a_step_of_a_cpu_is_vllms_own() -> None:
    assert arguments().max_num_batched_tokens is None
    assert arguments(step_tokens=1000).max_num_batched_tokens == 1000


def test_gpus_together(on_a_gpu: Callable[..., None]) -> None:
    on_a_gpu(gpus=4)

    assert arguments(tensor_parallel=4).tensor_parallel_size == 4


@pytest.mark.parametrize("gpus", [0, 1])
def test_more_gpus_than_there_are_is_refused(gpus: int, on_a_gpu: Callable[..., None]) -> None:
    """vLLM would look for a cluster of Ray's."""
    if gpus:
        on_a_gpu(gpus=gpus)

    with pytest.raises(
        ValueError, match=f"ERC_ENGINE__TENSOR_PARALLEL: 2 GPUs .*, there are {gpus}"
    ):
        arguments(tensor_parallel=2)


@pytest.mark.parametrize(
    ("capability", "options", "nvcc", "config", "backend"),
    [
        pytest.param(HOPPER, {}, None, "{}", None, id="Hopper"),
        pytest.param(BLACKWELL_DESKTOP, {}, None, "{}", None, id="Blackwell's desktop GPUs"),
        pytest.param(BLACKWELL, {}, None, "{}", "FLASH_ATTN", id="Blackwell"),
        pytest.param(BLACKWELL, {}, "/usr/bin/nvcc", "{}", None, id="Blackwell with nvcc"),
        pytest.param(BLACKWELL, {"kv_dtype": "fp8"}, None, "{}", "TRITON_ATTN", id="fp8 cache"),
        pytest.param(BLACKWELL, {}, None, '{"kv_lora_rank": 512}', None, id="latent attention"),
        pytest.param(
            BLACKWELL, {"attention": "FLASHINFER"}, None, "{}", "FLASHINFER", id="as it is set"
        ),
    ],
)
def test_attention_needs_no_compiler_that_is_not_there(
    capability: tuple[int, int],
    options: dict[str, Any],
    nvcc: str | None,
    config: str,
    backend: str | None,
    on_a_gpu: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """On Blackwell vLLM takes FlashInfer's kernels, which nvcc compiles when they first run."""
    on_a_gpu(capability)
    monkeypatch.setattr("shutil.which", lambda _: nvcc)
    (tmp_path / "config.json").write_text(config)

    assert attention_backend(tmp_path, EngineOptions(**options)) == backend


@pytest.mark.parametrize(
    ("further", "reason"),
    [
        ({"dtype": "half"}, "dtype is refused: set ERC_ENGINE__DTYPE"),
        ({"quantization": "fp8"}, "quantization is refused: the bundle decides it"),
        ({"logprobs_mode": "raw_logits"}, "logprobs_mode is refused: the service reads"),
        ({"trust_remote_code": True}, "trust_remote_code is refused: it would run code"),
        ({"max_num_seq": 4}, "max_num_seq is no argument of vLLM's AsyncEngineArgs"),
    ],
)
def test_an_argument_that_cannot_be_given_is_refused(further: dict[str, Any], reason: str) -> None:
    """Beside one that can; each is named with the reason."""
    with pytest.raises(ValueError) as refused:
        check_further({"swa_bounded_replay": False, **further})

    assert str(refused.value).startswith(f"ERC_ENGINE__ARGUMENTS: {reason}")


def test_what_is_refused_is_an_argument_of_vllm() -> None:
    """A name that vLLM changed would pass for unknown, and its new name would be taken."""
    known = {each.name for each in dataclasses.fields(AsyncEngineArgs)}

    assert {*_SETTINGS, *_REFUSED} <= known
    assert all(f"`{setting}`" in settings_table() for setting in _SETTINGS.values())


async def test_a_further_argument_reaches_the_engine() -> None:
    """An engine without a prefix cache finds nothing in it."""
    options = EngineOptions(further={"enable_prefix_caching": False})
    engine = await start_engine(BUNDLE, max_tokens=128, options=options)
    try:
        for _ in range(2):
            reading = await engine.read([101, *range(2000, 2100)], [2001], Priority.INTERACTIVE)
    finally:
        await engine.close()

    assert reading.cached_tokens == 0


async def test_an_engine_with_a_refused_argument_does_not_start() -> None:
    with pytest.raises(EngineUnavailable, match=r"^ERC_ENGINE__ARGUMENTS: seed is refused"):
        await start_engine(BUNDLE, max_tokens=128, options=EngineOptions(further={"seed": 1}))


async def test_a_gpus_engine_chooses_its_own_number_of_threads(
    on_a_gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder's is set in this process, which vLLM would take for a user's wish."""
    import os

    on_a_gpu()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    seen: list[str | None] = []

    class Arguments:
        def create_engine_config(self) -> Any:
            seen.append(os.environ.get("OMP_NUM_THREADS"))
            return SimpleNamespace()

    class Llm:
        @staticmethod
        def from_vllm_config(_: Any) -> None:
            seen.append(os.environ.get("OMP_NUM_THREADS"))

    monkeypatch.setattr("service.decoding.in_process.engine_arguments", lambda *_: Arguments())
    monkeypatch.setattr("vllm.v1.engine.async_llm.AsyncLLM", Llm)

    await start_engine(BUNDLE, max_tokens=128, options=EngineOptions(threads=3))

    assert seen == [None, None]
    assert os.environ["OMP_NUM_THREADS"] == "7"
