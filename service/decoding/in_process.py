"""The in-process label engine: vLLM's scheduler, cache and kernels, without HTTP.

`start_engine` starts vLLM.
"""

import itertools
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import active_count
from typing import TYPE_CHECKING

from service.decoding.engine import Reading
from service.decoding.engine_arguments import EngineOptions as EngineOptions
from service.decoding.engine_arguments import engine_arguments
from service.decoding.forking import forking
from service.decoding.gpu import driver_fault
from service.decoding.precision import EngineType, engine_type
from service.environment import environment, set_up_vllm
from service.errors import EngineUnavailable
from service.failures import Failures, log_cause
from service.priority import Priority
from service.tracing import current_trace

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.metrics.stats import RequestStateStats

log = logging.getLogger(__name__)

_SHUTDOWN_S = 5.0


class InProcessEngine:
    """A label engine on vLLM's AsyncLLM. Made by `start_engine`.

    Attributes:
        dtype: the layers' compute type.
        device: the type of device that it computes on, as torch names it.
    """

    def __init__(
        self,
        llm: "AsyncLLM",
        dtype: EngineType,
        device: str = "cpu",
        shutdown_s: float = _SHUTDOWN_S,
        sockets: TemporaryDirectory[str] | None = None,
    ) -> None:
        self._llm: AsyncLLM | None = llm
        self._sockets = sockets
        self.dtype = dtype
        self.device = device
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
            if self._sockets is not None:
                self._sockets.cleanup()


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
    if (fault := driver_fault()) is not None:
        raise EngineUnavailable("; ".join(fault))
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    on_cpu = current_platform.is_cpu()
    device = current_platform.device_type
    dtype = engine_type(options.dtype, device)
    try:
        arguments = engine_arguments(model, max_tokens, options, dtype, seed)
    except ValueError as error:
        raise EngineUnavailable(str(error)) from None
    try:
        # vLLM leaves the sockets to its own process behind when it ends. The folder is removed with
        # what is in it when the engine is closed, or this process ends.
        sockets = TemporaryDirectory(
            prefix="erc-", dir=os.environ.get("VLLM_RPC_BASE_PATH"), ignore_cleanup_errors=True
        )
        with ExitStack() as stack:
            stack.enter_context(environment(VLLM_RPC_BASE_PATH=sockets.name))
            if on_cpu:
                stack.enter_context(_computing_alone(options.threads))
            else:
                # The encoder's number of threads, which vLLM would take for a user's wish and keep
                # while it serves, where one thread is fastest.
                stack.enter_context(environment(OMP_NUM_THREADS=None))
            config = arguments.create_engine_config()
            if on_cpu and options.forked and active_count() == 1:
                stack.enter_context(forking(once_begun))
                shutdown_s = 0.0  # a fork has nothing of its own
            else:
                once_begun()
                shutdown_s = _SHUTDOWN_S
            # Not in a local variable: vLLM keeps this frame, and the engine would live as long.
            return InProcessEngine(
                AsyncLLM.from_vllm_config(config), dtype, device, shutdown_s, sockets
            )
    except Exception as error:
        log_cause(log, f"vLLM does not start on {model}", error)
        raise EngineUnavailable(f"vLLM does not start on {model}: {error}") from error
