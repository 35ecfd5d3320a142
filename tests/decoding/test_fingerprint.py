"""Whether a model is known again by how it reads one prompt."""

import math
from dataclasses import replace

import pytest
import torch

from service.decoding.bundle import Bundle
from service.decoding.fingerprint import (
    difference,
    fingerprint_of,
    is_coarse,
    is_float32,
    is_same_model,
    question_of,
)
from service.decoding.server_check import WrongServer, check_question
from service.decoding.tokenizer import Tokenizer


def log_probabilities(seed: int, dtype: torch.dtype) -> list[float]:
    """32 of a vocabulary's, from logits that were rounded to a type."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(3000, generator=generator)
    values: list[float] = torch.log_softmax(logits.to(dtype).float(), -1)[:32].tolist()
    return values


@pytest.mark.parametrize("seed", range(20))
def test_half_precision_of_logits_shows(seed: int) -> None:
    assert is_coarse(log_probabilities(seed, torch.bfloat16))
    assert is_coarse(log_probabilities(seed, torch.float16))
    assert not is_coarse(log_probabilities(seed, torch.float32))


def test_impossible_tokens_hide_nothing() -> None:
    fine = log_probabilities(1, torch.float32)

    assert not is_coarse([-math.inf, *fine])
    assert not is_coarse([-math.inf, -math.inf])


def test_a_question_has_the_labels_and_a_part_of_the_prompt(
    description: Bundle, tokenizer: Tokenizer
) -> None:
    """It is the same each time."""
    question = question_of(description, tokenizer)

    assert question == question_of(description, tokenizer)
    assert len(question.candidates) == len(set(question.candidates)) == 32
    # Long enough for whole blocks of the prefix cache, which begins with the prompt.
    assert len(question.prompt) > 64


def test_a_service_that_renders_another_prompt_does_not_start(
    description: Bundle, tokenizer: Tokenizer
) -> None:
    """The model was trained on the merge's."""
    question = question_of(description, tokenizer)
    fingerprint = fingerprint_of(question, [-1.0] * 32)
    merged = description.model_copy(update={"fingerprint": fingerprint})

    check_question(description, replace(question, prompt=(1, 2)))
    check_question(merged, question)
    with pytest.raises(WrongServer, match="merge it again"):
        check_question(merged, replace(question, prompt=(*question.prompt, 1)))


def test_small_differences_are_of_precision_and_large_ones_of_another_model(
    description: Bundle, tokenizer: Tokenizer
) -> None:
    values = log_probabilities(3, torch.float32)
    fingerprint = fingerprint_of(question_of(description, tokenizer), values)

    def apart(by: float) -> float:
        return difference(fingerprint, [value + by * (-1) ** n for n, value in enumerate(values)])

    assert is_float32(apart(0))
    assert not is_float32(apart(0.02))
    assert is_same_model(apart(0.02))
    assert not is_same_model(apart(1))
    assert not is_same_model(difference(fingerprint, [-math.inf, *values[1:]]))
