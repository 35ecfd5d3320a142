"""Row c': what a user would write instead of the service: vLLM's own server, and a client.

The client sends the service's prompts to `/v1/completions` as token ids and asks for the labels'
log-probabilities.
"""

import json
import time
from collections.abc import Iterable, Sequence

import uvloop

from service.settings import load_settings
from tests.bench.client import Client, request
from tests.bench.load import Sample, closed_loop
from tests.bench.measuring import (
    Measurement,
    ProcessorTime,
    percentiles_ms,
    process_and_below,
    this_process,
)
from tests.bench.passes import WARM_UP
from tests.bench.processes import HOST, vllm_server
from tests.bench.rows.engine import engine_threads
from tests.bench.setup import Setup
from tests.bench.turns import Turn, in_waves, read_turns

_CALLERS = 64
LOAD = f"in waves, {_CALLERS} callers"


def measure(setup: Setup, demonstrations: bool) -> list[Measurement]:
    return uvloop.run(_measure(setup, demonstrations))


async def _measure(setup: Setup, demonstrations: bool) -> list[Measurement]:
    passes = read_turns(setup.prompts_file(demonstrations))
    bundle, _ = setup.load_bundle()
    turns = in_waves([turns for n in setup.measured_passes for turns in passes[n]])
    requests = _requests(turns)
    with vllm_server(setup, load_settings(), bundle.max_tokens, engine_threads()) as server:
        async with Client(HOST, server.port) as client:
            await closed_loop(client.send, _requests(in_waves(passes[WARM_UP])), _CALLERS)
            processor = ProcessorTime(lambda: process_and_below(server.pid))
            client_processor = ProcessorTime(this_process)
            start = time.perf_counter()
            samples = await closed_loop(client.send, requests, _CALLERS)
            seconds = time.perf_counter() - start
            processor_s, client_s = processor.seconds(), client_processor.seconds()
    prompt_tokens, cached_tokens = _tokens(samples)
    return [
        Measurement(
            row="c'",
            load=LOAD,
            demonstrations=demonstrations,
            what="vLLM's own server, the service's prompts given",
            utterances=len(turns),
            seconds=seconds,
            latency_ms=percentiles_ms(sample.latency_s for sample in samples),
            prompt_tokens=prompt_tokens,
            computed_tokens=prompt_tokens - cached_tokens,
            rejects=sum(not sample.answer.ok for sample in samples),
            processor_s=processor_s,
            client_processor_s=client_s,
        )
    ]


def _requests(turns: Iterable[Turn]) -> list[list[bytes]]:
    """The requests of each utterance, in order: most often one."""
    return [
        [
            request(
                "POST",
                "/v1/completions",
                json.dumps(
                    {
                        "model": "bundle",
                        "prompt": read.prompt,
                        "max_tokens": 1,
                        "temperature": 0,
                        "logprobs": 1,  # has to be there for the next one
                        "logprob_token_ids": read.candidates,
                        "return_tokens_as_token_ids": True,
                    }
                ).encode(),
            )
            for read in turn
        ]
        for turn in turns
    ]


def _tokens(samples: Sequence[Sample]) -> tuple[int, int]:
    """Prompt tokens and cached tokens of all answers."""
    prompt = cached = 0
    for sample in samples:
        if sample.answer.ok:
            usage = json.loads(sample.answer.body)["usage"]
            prompt += usage["prompt_tokens"]
            cached += (usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0
    return prompt, cached
