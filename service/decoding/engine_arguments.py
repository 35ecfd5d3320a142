"""The arguments that vLLM's engine is started with: the service's, and further ones of a user."""

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from service.decoding.model_files import read_json
from service.decoding.model_folder import CONFIG
from service.decoding.precision import EngineChoice, EngineType

if TYPE_CHECKING:
    from vllm.engine.arg_utils import AsyncEngineArgs

KvType = Literal["auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"]
Attention = Literal["FLASH_ATTN", "FLASHINFER", "TRITON_ATTN", "FLEX_ATTENTION"]
LoadFormat = Literal["safetensors", "runai_streamer", "runai_streamer_sharded"]

# Only whole blocks of the cache are shared; 32 is the smallest the CPU backend takes.
_CPU_BLOCK_TOKENS = 32
# What `vllm serve` computes on an H100. Engines that are used as a library default to 2,048, at
# which a GPU of that kind waits for the next step for a good part of the time.
_GPU_STEP_TOKENS = 8192

# Arguments that the service decides, by the setting that does.
_SETTINGS = {
    "model": "ERC_BUNDLE",
    "model_weights": "ERC_ENGINE__WEIGHTS",
    "load_format": "ERC_ENGINE__LOAD_FORMAT",
    "dtype": "ERC_ENGINE__DTYPE",
    "kv_cache_dtype": "ERC_ENGINE__KV_DTYPE",
    "attention_backend": "ERC_ENGINE__ATTENTION",
    "tensor_parallel_size": "ERC_ENGINE__TENSOR_PARALLEL",
    "max_num_batched_tokens": "ERC_ENGINE__STEP_TOKENS",
    "max_num_seqs": "ERC_ENGINE__MAX_SEQUENCES",
    "gpu_memory_utilization": "ERC_ENGINE__GPU_MEMORY",
    "otlp_traces_endpoint": "ERC_TRACES",
}
_BUNDLE = "the bundle decides it: another value would answer with another model than was evaluated"
_READING = "the service reads one token's log-probabilities of each prompt, by this value of it"
_CODE = "it would run code that is no part of the service"
# Arguments that would change answers, or run foreign code, with the reason.
_REFUSED = {
    **dict.fromkeys(
        (
            *("hf_config_path", "hf_overrides", "config_format", "revision", "code_revision"),
            *("max_model_len", "runner", "convert", "quantization", "quantization_config"),
            *("allow_deprecated_quantization", "disable_sliding_window", "enable_lora"),
            *("default_mm_loras", "lora_dtype", "lora_target_modules", "speculative_config"),
            *("spec_method", "spec_model", "spec_tokens", "model_class_overrides", "model_impl"),
            *("kv_sharing_fast_prefill", "kv_cache_dtype_skip_layers", "diffusion_config"),
            *("engram_config", "watermark_config", "pooler_config", "weight_transfer_config"),
        ),
        _BUNDLE,
    ),
    **dict.fromkeys(
        (
            *("max_logprobs", "logprobs_mode", "seed", "scheduling_policy", "tokens_only"),
            *("skip_tokenizer_init", "tokenizer", "tokenizer_mode", "tokenizer_revision"),
            *("generation_config", "override_generation_config", "enable_trace_replay"),
            *("return_sampling_mask", "enable_prompt_embeds", "structured_outputs_config"),
            *("reasoning_parser", "reasoning_config", "enable_batch_sharded_sampling"),
            *("use_fp64_gumbel",),
        ),
        _READING,
    ),
    **dict.fromkeys(
        (
            *("trust_remote_code", "logits_processors", "worker_cls", "worker_extension_cls"),
            *("scheduler_cls", "reasoning_parser_plugin", "io_processor_plugin"),
        ),
        _CODE,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How vLLM is started.

    Attributes:
        kv_cache_gib: size of the KV cache on a CPU; a GPU's is a share of its memory.
        threads: cores that one step computes on, if vLLM runs on a CPU.
        max_sequences: the most prompts in one step.
        step_tokens: the most tokens in one step; None: 8,192 on a GPU, vLLM's default on a CPU.
        gpu_memory: share of a GPU's memory that vLLM takes.
        tensor_parallel: GPUs that hold one copy of the model together.
        dtype: the layers' compute type; "auto": the one that the machine supports natively.
        kv_dtype: of the KV cache; "auto": as `dtype`, or as a quantised checkpoint says.
        attention: vLLM's name of the attention kernels on a GPU; None: `attention_backend`.
        load_format: how weights are loaded; None: by where they are.
        weights: URI of the weights in an object store, such as `s3://bucket/folder`; None: they
            are in the bundle's folder.
        further: arguments of vLLM's by name; see `check_further`.
        forked: whether vLLM's process is a fork of this one, if there is no GPU and no other thread
            by then; `service.decoding.forking.may_fork` tells whether it may be. It computes on the
            number of threads that torch was set to when it was imported.
        traces_endpoint: URL that receives spans by OTLP over HTTP; None: no spans are sent.
    """

    kv_cache_gib: int = 1
    threads: int = 1
    max_sequences: int = 128
    step_tokens: int | None = None
    gpu_memory: float = 0.9
    tensor_parallel: int = 1
    dtype: EngineChoice = "auto"
    kv_dtype: KvType = "auto"
    attention: Attention | None = None
    load_format: LoadFormat | None = None
    weights: str | None = None
    further: Mapping[str, Any] = field(default_factory=dict)
    forked: bool = False
    traces_endpoint: str | None = None


def engine_arguments(
    model: Path, max_tokens: int, options: EngineOptions, dtype: EngineType, seed: int
) -> "AsyncEngineArgs":
    """The arguments of vLLM on this machine.

    Raises:
        ValueError: `options` has further arguments that are refused, or more GPUs than there are,
            and the message names the setting; or this machine cannot compute the model's
            quantised layers.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    check_further(options.further)
    if on_cpu:
        _check_quantised_layers(model)
    if options.tensor_parallel > 1:
        _check_gpus(options.tensor_parallel, 0 if on_cpu else current_platform.device_count())
    own: dict[str, Any] = {
        "model": str(model),
        "model_weights": options.weights or "",
        "load_format": options.load_format
        or ("runai_streamer" if options.weights else "safetensors"),
        "skip_tokenizer_init": True,
        "dtype": dtype,
        "kv_cache_dtype": options.kv_dtype,
        # Near the labels' values, bfloat16 logits are 0.06 apart: too coarse for probabilities.
        "hf_overrides": {"head_dtype": "float32"},
        "max_model_len": max_tokens,
        "max_num_seqs": options.max_sequences,
        "max_num_batched_tokens": options.step_tokens or (None if on_cpu else _GPU_STEP_TOKENS),
        "gpu_memory_utilization": options.gpu_memory,
        "tensor_parallel_size": options.tensor_parallel,
        "attention_backend": None if on_cpu else attention_backend(model, options),
        "block_size": _CPU_BLOCK_TOKENS if on_cpu else None,
        "distributed_executor_backend": "uni" if on_cpu else None,
        "enforce_eager": on_cpu,
        "enable_prefix_caching": True,
        "scheduling_policy": "priority",
        "max_logprobs": 128,
        "seed": seed,
        "enable_log_requests": False,
        "use_tqdm_on_load": False,
        "otlp_traces_endpoint": options.traces_endpoint,
    }
    return AsyncEngineArgs(**{**own, **options.further})


def check_further(further: Mapping[str, Any]) -> None:
    """Check a user's further arguments of vLLM's engine; imports vLLM.

    Raises:
        ValueError: one is unknown to vLLM, has a setting, or would change answers.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs

    known = {each.name for each in dataclasses.fields(AsyncEngineArgs)}
    faults = []
    for name in further:
        if name in _SETTINGS:
            faults.append(f"{name} is refused: set {_SETTINGS[name]}")
        elif name in _REFUSED:
            faults.append(f"{name} is refused: {_REFUSED[name]}")
        elif name not in known:
            faults.append(f"{name} is no argument of vLLM's AsyncEngineArgs")
    if faults:
        raise ValueError(f"ERC_ENGINE__ARGUMENTS: {'; '.join(faults)}")


def attention_backend(model: Path, options: EngineOptions) -> str | None:
    """The attention kernels to name to vLLM; None leaves the choice to it.

    On GPUs of compute capability 10 (B200) it would take FlashInfer's, which are compiled with nvcc
    when they first run.
    """
    from vllm.platforms import current_platform

    if options.attention is not None:
        return options.attention
    capability = current_platform.get_device_capability()
    latent = "kv_lora_rank" in read_json(model / CONFIG)  # DeepSeek's has kernels of its own
    if capability is None or capability.major != 10 or latent or shutil.which("nvcc"):
        return None
    return "TRITON_ATTN" if options.kv_dtype.startswith("fp8") else "FLASH_ATTN"


def _check_quantised_layers(model: Path) -> None:
    """Refuse fp8 on a CPU for which vLLM has no kernels of it."""
    import torch

    quantisation = read_json(model / CONFIG).get("quantization_config") or {}
    has_tiles = torch.cpu.get_capabilities().get("amx_tile", False)
    if quantisation.get("quant_method") == "fp8" and not has_tiles:
        raise ValueError(
            f"{model / CONFIG}: the layers are quantised as fp8, which on a CPU requires AMX "
            "(Intel Sapphire Rapids or newer): serve the model on a GPU, or quantise it as AWQ or "
            "GPTQ"
        )


def _check_gpus(wanted: int, there: int) -> None:
    if wanted > there:
        raise ValueError(
            f"ERC_ENGINE__TENSOR_PARALLEL: {wanted} GPUs are asked for, there are {there}"
        )
