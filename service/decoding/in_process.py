"""The in-process label engine: vLLM's scheduler, cache and kernels, without HTTP."""

import itertools
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import active_count
from typing import TYPE_CHECKING

from service.decoding.engine import Reading
from service.decoding.forking import forking
from service.decoding.precision import Choice, ComputeType, compute_type
from service.environment import environment, set_up_vllm
from service.errors import EngineUnavailable
from service.failures import Failures, log_cause
from service.priority import Priority
from service.tracing import current_trace

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.metrics.stats import RequestStateStats

log = logging.getLogger(__name__)

# Only whole blocks of the cache are shared; 32 is the smallest the CPU backend takes.
_CPU_BLOCK_TOKENS = 32
_SHUTDOWN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How vLLM is started.

    Attributes:
        kv_cache_gib: size of the KV cache on a CPU; a GPU's is a share of its memory.
        threads: cores that one step computes on, if vLLM runs on a CPU.
        max_sequences: the most prompts in one step.
        gpu_memory: share of a GPU's memory that vLLM takes.
        dtype: the layers' compute type; "auto": the one that the machine supports natively.
        forked: whether vLLM's process is a fork of this one, if there is no GPU and no other thread
            by then; `service.decoding.forking.may_fork` tells whether it may be. It computes on the
            number of threads that torch was set to when it was imported.
        traces_endpoint: URL that receives spans by OTLP over HTTP; None: no spans are sent.
    """

    kv_cache_gib: int = 1
    threads: int = 1
    max_sequences: int = 128
    gpu_memory: float = 0.9
    dtype: Choice = "auto"
    forked: bool = False
    traces_endpoint: str | None = None


class InProcessEngine:
    """A label engine on vLLM's AsyncLLM. Made by `start_engine`.

    Attributes:
        dtype: the layers' compute type.
    """

    def __init__(
        self, llm: "AsyncLLM", dtype: ComputeType, shutdown_s: float = _SHUTDOWN_S
    ) -> None:
        self._llm: AsyncLLM | None = llm
        self.dtype = dtype
        self._shutdown_s = shutdown_s
        self._numbers = itertools.count()
        self._failures = Failures(log, "the label engine")

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        from vllm import SamplingParams
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        if self._llm is None:
            raise EngineUnavailable("the label engine is closed")
        token_ids, trace = list(candidates), current_trace()
        sampling = SamplingParams(
            max_tokens=1,
            temperature=0,
            logprob_token_ids=token_ids,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,  # it is not shared, and vLLM's deep copy takes as long as a prompt
        )
        # vLLM hashes the salt with a prompt's first block, and each block with the one before it.
        # So tenants do not share the static text at the beginning either: a tenant's first prompt
        # of a label space computes it. With erc-mini that is one block, a tenth of the time.
        engine_prompt = tokens_input(list(prompt), cache_salt=salt)
        headers = None if trace is None else trace.headers()
        request_id = f"read-{next(self._numbers)}"
        try:
            # Exhaust the generator of one output: leaving it early makes vLLM abort the request.
            outputs = [
                output
                async for output in self._llm.generate(
                    engine_prompt, sampling, request_id, priority=priority, trace_headers=headers
                )
            ]
        except Exception as error:  # vLLM's errors have no common root
            self._failures.failed(error)
            raise EngineUnavailable("the label engine failed") from error
        logprobs = outputs[-1].outputs[0].logprobs if outputs else None
        if logprobs is None:
            raise EngineUnavailable("the label engine returned no answer")
        self._failures.worked()
        return Reading(
            tuple(logprobs[0][token].logprob for token in token_ids),
            outputs[-1].num_cached_tokens or 0,
            _queue_s(outputs[-1].metrics),
        )

    async def check(self) -> None:
        if self._llm is None or self._llm.errored:
            raise EngineUnavailable("the label engine is closed or has died")

    async def close(self) -> None:
        llm, self._llm = self._llm, None
        if llm is not None:
            # Block the loop, which has nothing else left to do: if vLLM's own task ran between the
            # engine's end and its own, it would report the end as a failure.
            llm.shutdown(self._shutdown_s)


def _queue_s(times: "RequestStateStats | None") -> float:
    """Seconds in the queue, both times by the engine process; `scheduled_ts` is 0 if unknown."""
    return 0.0 if times is None else max(0.0, float(times.scheduled_ts - times.queued_ts))


def _computing_alone(threads: int) -> AbstractContextManager[None]:
    """Set the environment of the engine process that starts inside the block, without a GPU.

    vLLM would start a worker process behind it and wait for that in a busy loop: 4.7 ms of
    processor time a read, 2.5 ms without. Neither the model nor the sampler is compiled: that is no
    faster (220 reads/s either way, 22 M parameters), takes 8 to 18 s more at the start, and needs a
    C++ compiler on the machine.
    """
    return environment(
        VLLM_ENABLE_V1_MULTIPROCESSING="0",  # otherwise vLLM turns "uni" into "mp"
        OMP_NUM_THREADS=str(threads),  # read when a process starts
        TORCH_COMPILE_DISABLE="1",
    )


async def start_engine(
    model: Path,
    *,
    max_tokens: int,
    options: EngineOptions,
    seed: int = 0,
    once_begun: Callable[[], None] = lambda: None,
) -> InProcessEngine:
    """Start vLLM on a folder of merged weights; takes tens of seconds.

    Args:
        max_tokens: the longest prompt, including the token that follows it.
        once_begun: called once, before vLLM's own process loads the model, for which the event loop
            waits. It may start threads; see `service.decoding.forking.forking`.

    Raises:
        EngineUnavailable: vLLM does not start; its own log has the reason.
    """
    set_up_vllm(options.kv_cache_gib, traces=options.traces_endpoint is not None)
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    on_cpu = current_platform.is_cpu()
    dtype = compute_type(options.dtype, current_platform.device_type)
    arguments = AsyncEngineArgs(
        model=str(model),
        load_format="safetensors",
        skip_tokenizer_init=True,
        dtype=dtype,
        # Near the labels' values, bfloat16 logits are 0.06 apart: too coarse for probabilities.
        hf_overrides={"head_dtype": "float32"},
        max_model_len=max_tokens,
        max_num_seqs=options.max_sequences,
        gpu_memory_utilization=options.gpu_memory,
        block_size=_CPU_BLOCK_TOKENS if on_cpu else None,
        distributed_executor_backend="uni" if on_cpu else None,
        enforce_eager=on_cpu,
        enable_prefix_caching=True,
        scheduling_policy="priority",
        max_logprobs=128,
        seed=seed,
        enable_log_requests=False,
        use_tqdm_on_load=False,
        otlp_traces_endpoint=options.traces_endpoint,
    )
    try:
        with ExitStack() as stack:
            if on_cpu:
                stack.enter_context(_computing_alone(options.threads))
            config = arguments.create_engine_config()
            if on_cpu and options.forked and active_count() == 1:
                stack.enter_context(forking(once_begun))
                shutdown_s = 0.0  # a fork has nothing of its own
            else:
                once_begun()
                shutdown_s = _SHUTDOWN_S
            # Not in a local variable: vLLM keeps this frame, and the engine would live as long.
            return InProcessEngine(AsyncLLM.from_vllm_config(config), dtype, shutdown_s)
    except Exception as error:
        log_cause(log, f"vLLM does not start on {model}", error)
        raise EngineUnavailable(f"vLLM does not start on {model}: {error}") from error
