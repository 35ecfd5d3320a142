"""The bundle's tokenizer, as prompts use it."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from service.conversation.prompts.tokens import Encode

# Histories repeat from turn to turn; a segment's tokens are kept until newer ones push them out.
_KEPT_SEGMENTS = 50_000


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """
    Attributes:
        encode: token ids of a text, without special tokens. Not safe to call from two threads.
        begin: the token ids every prompt begins with.
        end: the token that closes a target, if there is one.
    """

    encode: Encode
    begin: tuple[int, ...]
    end: int | None


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer of a model folder, from its files alone."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    @lru_cache(maxsize=_KEPT_SEGMENTS)
    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special_tokens=False))

    begin = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
    return Tokenizer(encode, begin, tokenizer.eos_token_id)
