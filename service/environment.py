"""Environment variables that libraries read, set for this process and its children.

Those of the service itself are in `service/settings.py`.

Variables that the user has set are kept, except those that would break the process.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def environment(**variables: str | None) -> Iterator[None]:
    """Set environment variables for the duration of the block; None unsets one."""
    before = {name: os.environ.get(name) for name in variables}
    _apply(variables)
    try:
        yield
    finally:
        _apply(before)


def _apply(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def set_up_torch_threads(threads: int, copied: int | None = None) -> None:
    """Have torch compute on `threads` cores; torch reads this when it is imported.

    Args:
        copied: the number of cores for a process that is forked from this one and inherits its
            environment; if given, it replaces what the user has set.
    """
    if copied is not None:
        os.environ["OMP_NUM_THREADS"] = str(copied)
    _set(OMP_NUM_THREADS=str(threads))


def set_up_training() -> None:
    """Have OpenMP's threads sleep while they wait for each other; read when torch is imported.

    If they spin, a training step takes ten times as long as soon as another process needs a core
    (6 and 60 s on two cores; 12 s asleep). Otherwise it takes the same time.
    """
    _set(OMP_WAIT_POLICY="PASSIVE")


def set_up_tokenizers() -> None:
    """Have tokenizers use no threads of their own; read when one first runs.

    They gain nothing on a batch of 32 short texts, and warn when a process that has used them
    forks.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def set_up_vllm(kv_cache_gib: int | None = None, *, traces: bool = False) -> None:
    """Set what vLLM, torch and the hub's library read when they are imported.

    Args:
        kv_cache_gib: the size of the prefix cache on a CPU, in GiB.
        traces: whether vLLM sends spans.
    """
    if kv_cache_gib is not None:
        _set(VLLM_CPU_KVCACHE_SPACE=str(kv_cache_gib))
    if traces:
        _set(OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="http/protobuf")
    _set(
        VLLM_NO_USAGE_STATS="1",
        VLLM_LOGGING_LEVEL="ERROR",
        TORCH_CPP_LOG_LEVEL="ERROR",
        TORCH_LOGS="-torch._library.triton",  # a CPU has no use for Triton
        PYTHONWARNINGS="ignore::FutureWarning",  # torch's, at vLLM
        HF_HUB_OFFLINE="1",
        TOKENIZERS_PARALLELISM="false",
        # FlashInfer compiles its sampler with nvcc, which no image has; the service takes the most
        # likely token.
        VLLM_USE_FLASHINFER_SAMPLER="0",
    )
    # On a GPU vLLM forks by default. By then this process has computed the encoder's vectors with
    # OpenMP, which does not survive a fork: the engine would hang in its first parallel region.
    # Nor would the fork call vLLM's plugins, which this process has called already.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"


def _set(**variables: str) -> None:
    for name, value in variables.items():
        os.environ.setdefault(name, value)
