"""Greedy decoding: whether a model has learnt to answer with a label and nothing else.

The service never decodes: it reads the labels' probabilities, so that a model which would rather
say something else still answers. Here transformers generates from the bundle's weights, greedily,
behind the very prompts that were scored; nothing of it is part of the service.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from service.conversation.dialogue import Dialogue
from service.conversation.labels import LabelSpace
from service.conversation.prompts.tokens import verbalizer_ids
from service.decoding.bundle import read_bundle
from service.decoding.engine import LabelEngine, Priority, Reading
from service.decoding.precision import EngineChoice, device_type, engine_type
from service.decoding.tokenizer import load_tokenizer
from service.recognition.dialogues import recognize_dialogue
from service.recognition.pipeline import Recognizer
from training.evaluation.predictions import Predictions, Spoken

Prompt = tuple[int, ...]
# Texts that follow prompts, for the verbalizers of a label space.
Speak = Callable[[Sequence[Prompt], Sequence[str]], list[str]]

_BATCH_TOKENS = 16_384  # of prompts, padding included


async def prompts_of(
    open_with: Callable[[LabelEngine], Recognizer],
    label_space: LabelSpace,
    dialogues: Sequence[Dialogue],
) -> list[Prompt]:
    """The prompts of all labelled utterances, as a recognizer asks its engine.

    Args:
        open_with: opens the recognizer on an engine; on one that only takes notes.
    """
    prompts: list[Prompt] = []
    for dialogue in tqdm(dialogues, unit=" dialogues", disable=None):
        notes = _Notes()
        # One at a time: the notes are in the order of the utterances.
        await recognize_dialogue(
            open_with(notes), dialogue.utterances, label_space, asyncio.Semaphore(1)
        )
        if dialogue.utterances:
            # Where whole verbalizers are scored, an utterance has several reads; of each, the
            # first is of the prompt as it is.
            first = notes.prompts[:: len(notes.prompts) // len(dialogue.utterances)]
            labelled = zip(dialogue.utterances, first, strict=True)
            prompts += [prompt for utterance, prompt in labelled if utterance.label is not None]
    return prompts


@dataclass(slots=True)
class _Notes:
    """A label engine that answers at once and keeps the prompts."""

    prompts: list[Prompt] = field(default_factory=list)

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        self.prompts.append(tuple(prompt))
        return Reading((-1.0,) * len(candidates), 0)

    async def check(self) -> None: ...

    async def close(self) -> None: ...


def open_speaker(folder: Path, dtype: EngineChoice = "auto") -> Speak:
    """Load a bundle to let it speak: greedily, up to a token more than its longest verbalizer.

    So much is room for the token that closes an answer; a model that goes on talking is seen to.
    Behind a prompt that leaves less room within the bundle's `max_tokens` it may say that much.

    Args:
        dtype: what is computed in; "auto": what the machine multiplies.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    bundle, tokens = read_bundle(folder), load_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    device = device_type()
    computed = getattr(torch, engine_type(dtype, device))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=computed, local_files_only=True)
    model = model.to(device).eval()
    pad = next(n for n in (tokenizer.pad_token_id, tokens.end, 0) if n is not None)

    def written(tokens_of: Any) -> list[str]:
        texts: list[str] = tokenizer.batch_decode(tokens_of, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def say(prompts: Sequence[Prompt], new_tokens: int) -> list[str]:
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), pad)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        # In place of the base's own, which may sample or punish what was said before.
        model.generation_config = GenerationConfig(
            max_new_tokens=new_tokens, do_sample=False, eos_token_id=tokens.end, pad_token_id=pad
        )
        with torch.inference_mode():
            generated = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device))
        return written(generated[:, width:])

    def speak(prompts: Sequence[Prompt], verbalizers: Sequence[str]) -> list[str]:
        template = bundle.prompt_template
        answers = [verbalizer_ids(template, v, tokens.encode) for v in verbalizers]
        longest = max(map(len, answers))
        # A tokenizer without capitals writes "joyful" for "Joyful".
        meant = dict(zip(written(answers), verbalizers, strict=True))
        texts = [""] * len(prompts)
        with tqdm(total=len(prompts), unit=" answers", disable=None) as bar:
            for places, room in _batches(prompts, bundle.max_tokens, longest + 1):
                spoken = say([prompts[place] for place in places], room)
                for place, text in zip(places, spoken, strict=True):
                    texts[place] = meant.get(text, text)
                bar.update(len(places))
        return texts

    return speak


def _batches(
    prompts: Sequence[Prompt], limit: int, new_tokens: int
) -> Iterator[tuple[list[int], int]]:
    """Places of prompts that are about equally long, and how many tokens may follow each."""
    batch: list[int] = []
    room = new_tokens
    for place in sorted(range(len(prompts)), key=lambda place: -len(prompts[place])):
        own = max(1, min(new_tokens, limit - len(prompts[place])))
        if batch and (own != room or len(prompts[batch[0]]) * (len(batch) + 1) > _BATCH_TOKENS):
            yield batch, room
            batch = []
        batch.append(place)
        room = own
    if batch:
        yield batch, room


def with_spoken(
    predictions: Predictions, texts: Sequence[str], verbalizers: Mapping[str, str]
) -> Predictions:
    """The answers with the decoded texts, and the label that each is the verbalizer of.

    Args:
        texts: of each answer.
        verbalizers: by label name.
    """
    labels = {verbalizer: label for label, verbalizer in verbalizers.items()}
    return replace(
        predictions,
        answers=tuple(
            replace(answer, spoken=Spoken(text, labels.get(text)))
            for answer, text in zip(predictions.answers, texts, strict=True)
        ),
    )
