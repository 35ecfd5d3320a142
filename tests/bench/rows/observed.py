"""Load on the running service, and what the service did under it."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson

from tests.bench.client import Client, request
from tests.bench.load import Sample
from tests.bench.measuring import (
    Measurement,
    ProcessorTime,
    percentiles_ms,
    process_and_below,
    stage_percentiles_ms,
    this_process,
)
from tests.bench.processes import Server
from tests.bench.service_metrics import Tokens, tokens_of


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a load is measured: what is answered in it.

    Conversations that begin together are all young at first, with short prompts, and do not end
    together. Between that, they are as long as they are on average.

    Attributes:
        ramp_s: seconds before it.
        seconds: its length.
    """

    ramp_s: float
    seconds: float

    @property
    def end_s(self) -> float:
        return self.ramp_s + self.seconds


async def observed(
    server: Server,
    client: Client,
    load: Coroutine[None, None, list[Sample]],
    window: Window | None = None,
    *,
    row: str,
    name: str,
    what: str,
    demonstrations: bool,
) -> Measurement:
    """Put load on a service and measure it.

    Args:
        load: sends the requests; it ends at the end of the window or later.
        window: None: everything is measured.
        row, name, what, demonstrations: which line of the table it is.

    Raises:
        ValueError: the service answered nothing, or went on without demonstrations: the numbers
            would be of something else.
    """
    start = time.perf_counter()
    sending = asyncio.create_task(load)
    if window is not None:
        await asyncio.sleep(window.ramp_s)
    before = await _tokens(client)
    processor = ProcessorTime(lambda: process_and_below(server.pid))
    client_processor = ProcessorTime(this_process)
    began = time.perf_counter() - start
    if window is None:
        samples = await sending
    else:
        await asyncio.sleep(window.seconds)
    ended = time.perf_counter() - start
    processor_s, client_s = processor.seconds(), client_processor.seconds()
    tokens = (await _tokens(client)).since(before)
    if window is not None:
        samples = [sample for sample in await sending if began <= sample.answered_s < ended]
    answered = [sample.answer for sample in samples if sample.answer.ok]
    if not answered:
        raise ValueError(f"nothing was answered: {samples[0].answer if samples else 'no request'}")
    results = list(chain.from_iterable(results_of(answer.body) for answer in answered))
    refused = sum("error" in result for result in results)
    if any("demonstrations" in result.get("degraded", ()) for result in results):
        raise ValueError("the service answered without demonstrations that it was asked to show")
    return Measurement(
        row=row,
        load=name,
        demonstrations=demonstrations,
        what=what,
        utterances=len(results) - refused,
        seconds=ended - began,
        latency_ms=percentiles_ms(s.latency_s for s in samples if s.answer.ok),
        stages_ms=stage_percentiles_ms(answer.header("server-timing") for answer in answered),
        prompt_tokens=tokens.prompt,
        computed_tokens=tokens.prompt - tokens.cached,
        rejects=len(samples) - len(answered) + refused,
        processor_s=processor_s,
        client_processor_s=client_s,
    )


async def _tokens(client: Client) -> Tokens:
    return tokens_of((await client.send(request("GET", "/metrics"))).body.decode())


def results_of(body: bytes) -> list[dict[str, Any]]:
    """What a body says of each utterance: of one, or of those of a batch.

    A dialogue of a batch that could not be scored is one entry, with `error`.
    """
    answer = orjson.loads(body)
    if "results" not in answer:
        return [answer]
    return list(
        chain.from_iterable(result.get("utterances", [result]) for result in answer["results"])
    )
