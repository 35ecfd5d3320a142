"""Row a: as the published code evaluates. The published prompt, transformers' `generate`, batches.

The published code sets no limit of new tokens; the model it evaluates has learnt to end after the
label. Here the longest label and its end are the limit, so that a model trained on another prompt
is no slower for talking on.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.conversation.labels import LabelSpace
from service.decoding.precision import device_type, multiplies_bfloat16
from tests.bench.measuring import (
    Measurement,
    ProcessorTime,
    percentiles_ms,
    this_process_and_below,
)
from tests.bench.passes import WARM_UP
from tests.bench.published import longest_answer, published_prompts
from tests.bench.setup import Setup

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BATCH = 16
LOAD = f"batches of {_BATCH}"
_TRIED_BATCHES = 3


def measure(setup: Setup, demonstrations: bool) -> list[Measurement]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    _, space = setup.load_bundle()
    tokenizer = AutoTokenizer.from_pretrained(setup.bundle, local_files_only=True)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    new_tokens = longest_answer(Path(setup.bundle), space)
    device = device_type()

    def load(dtype: "torch.dtype") -> "PreTrainedModel":
        model = AutoModelForCausalLM.from_pretrained(
            setup.bundle, dtype=dtype, local_files_only=True
        )
        return model.to(device).eval()

    def answer(model: "PreTrainedModel", prompts: Sequence[str]) -> tuple[list[str], int]:
        return _generate(model, tokenizer, prompts, new_tokens)

    tried = published_prompts(setup, [WARM_UP])[: _BATCH * _TRIED_BATCHES]
    seconds = {}
    for dtype in (torch.float32, *([torch.bfloat16] if multiplies_bfloat16(device) else [])):
        model = load(dtype)
        answer(model, tried[:_BATCH])
        start = time.perf_counter()
        for first in range(0, len(tried), _BATCH):
            answer(model, tried[first : first + _BATCH])
        seconds[dtype] = time.perf_counter() - start
    chosen = min(seconds, key=lambda dtype: seconds[dtype])
    model = load(chosen)
    answer(model, tried[:_BATCH])

    prompts = published_prompts(setup, setup.published_passes)
    processor = ProcessorTime(this_process_and_below)
    took, computed, unnamed = [], 0, 0
    for first in range(0, len(prompts), _BATCH):
        start = time.perf_counter()
        texts, tokens = answer(model, prompts[first : first + _BATCH])
        unnamed += sum(label_in(text, space) is None for text in texts)
        took.append(time.perf_counter() - start)
        computed += tokens
    processor_s = processor.seconds()
    names = {dtype: str(dtype).removeprefix("torch.") for dtype in seconds}
    rates = ", ".join(f"{names[d]} {len(tried) / s:.0f}/s" for d, s in seconds.items())
    faster = f", the faster ({rates})" if len(seconds) > 1 else ""
    return [
        Measurement(
            row="a",
            load=LOAD,
            demonstrations=None,
            what="transformers generate, published prompt",
            utterances=len(prompts),
            seconds=sum(took),
            latency_ms=percentiles_ms(took),
            prompt_tokens=sum(len(_encode(tokenizer, prompt)) for prompt in prompts),
            computed_tokens=computed,
            processor_s=processor_s,
            note=f"{names[chosen]}{faster}; at most {new_tokens} new tokens; "
            f"computed with padding; {unnamed} answers named no label",
        )
    ]


def _encode(tokenizer: "PreTrainedTokenizerBase", prompt: str) -> list[int]:
    """The prompt's tokens behind BOS; not what some tokenizers put behind a whole text."""
    ids: list[int] = tokenizer.encode(prompt, add_special_tokens=False)
    return ids if tokenizer.bos_token_id is None else [tokenizer.bos_token_id, *ids]


def _generate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    new_tokens: int,
) -> tuple[list[str], int]:
    """The decoded answers to a batch, and how many prompt tokens were computed, padding too."""
    import torch

    rows = [{"input_ids": _encode(tokenizer, prompt)} for prompt in prompts]
    batch = tokenizer.pad(rows, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        tokens = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=False,
            num_beams=1,
            max_new_tokens=new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
    width = batch["input_ids"].shape[1]
    answers: list[str] = tokenizer.batch_decode(tokens[:, width:], skip_special_tokens=True)
    return answers, batch["input_ids"].numel()


def label_in(answer: str, label_space: LabelSpace) -> str | None:
    """The first verbalizer in an answer; None where there is none."""
    verbalizers = sorted(label_space.verbalizers, key=len, reverse=True)
    match = re.search("|".join(map(re.escape, verbalizers)), answer, re.IGNORECASE)
    return None if match is None else match[0]
