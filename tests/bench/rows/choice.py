"""Row b: what a user of vLLM writes first. The published prompt, constrained choice, defaults.

All prompts are given at once. On a CPU vLLM wants to be told how much memory its cache may take,
and would emulate bfloat16, the type of the weights, where there is none; nothing else is set.
"""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from service.decoding.precision import engine_type
from service.decoding.tokenizer import load_tokenizer
from service.settings import load_settings
from tests.bench.measuring import (
    Measurement,
    ProcessorTime,
    percentiles_ms,
    this_process_and_below,
)
from tests.bench.passes import WARM_UP
from tests.bench.published import published_prompts
from tests.bench.setup import Setup

if TYPE_CHECKING:
    from vllm import RequestOutput

LOAD = "all at once"
_WARM_UP_PROMPTS = 96


def measure(setup: Setup, demonstrations: bool) -> list[Measurement]:
    settings = load_settings().engine
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(settings.kv_cache_gib))
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    _, space = setup.load_bundle()
    llm = LLM(model=setup.bundle, dtype=engine_type(settings.dtype))
    sampling = SamplingParams(
        temperature=0,
        structured_outputs=StructuredOutputsParams(choice=list(space.verbalizers)),
    )
    tokenizer = load_tokenizer(Path(setup.bundle))

    def answer(prompts: list[str]) -> "list[RequestOutput]":
        tokens = [
            {"prompt_token_ids": [*tokenizer.begin, *tokenizer.encode(prompt)]}
            for prompt in prompts
        ]
        outputs: list[RequestOutput] = llm.generate(tokens, sampling, use_tqdm=False)
        return outputs

    answer(published_prompts(setup, [WARM_UP])[:_WARM_UP_PROMPTS])
    prompts = published_prompts(setup, setup.published_passes)
    processor = ProcessorTime(this_process_and_below)
    start = time.perf_counter()
    outputs = answer(prompts)
    seconds = time.perf_counter() - start
    processor_s = processor.seconds()
    prompt_tokens = sum(len(output.prompt_token_ids or ()) for output in outputs)
    cached = sum(output.num_cached_tokens or 0 for output in outputs)
    return [
        Measurement(
            row="b",
            load=LOAD,
            demonstrations=None,
            what="vLLM, published prompt, constrained choice",
            utterances=len(prompts),
            seconds=seconds,
            latency_ms=percentiles_ms([seconds]),
            prompt_tokens=prompt_tokens,
            computed_tokens=prompt_tokens - cached,
            processor_s=processor_s,
        )
    ]
