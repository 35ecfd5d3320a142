"""The bundle's tokenizer, as prompts use it."""

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Protocol

from cachetools import LRUCache

from service.conversation.prompts.endings import Starts, word_starts
from service.conversation.prompts.tokens import Encode

# Histories repeat from turn to turn; a segment's tokens are kept until newer ones push them out. So
# many bytes hold 70,000 lines of 60 characters.
KEPT_BYTES = 64 * 2**20

# What a segment takes beside its text and its tokens: a key, a number, its places in three tables.
_ENTRY_BYTES = 700


class OwnedEncode(Protocol):
    """Token ids of an owner's text, kept for that owner alone; None: for whoever has none."""

    def __call__(self, owner: str | None, text: str) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """
    Attributes:
        encode: token ids of a text, without special tokens. Not safe to call from two threads.
        begin: the token ids every prompt begins with.
        end: the token that closes a target, if there is one.
        encode_owned: the same, where what is kept is kept by owner; None: nothing is kept.
        starts: where in a text the tokens begin that `encode` makes of it.
    """

    encode: Encode
    begin: tuple[int, ...]
    end: int | None
    encode_owned: OwnedEncode | None = None
    starts: Starts = word_starts

    def encode_for(self, owner: str | None) -> Encode:
        """As `encode`, but what is kept of a text is found again by its owner alone.

        So nobody can tell from the time what somebody else has said.
        """
        return self.encode if self.encode_owned is None else partial(self.encode_owned, owner)


def kept(encode: Encode, most_bytes: int = KEPT_BYTES) -> OwnedEncode:
    """Keep the tokens of the texts that were encoded last, in so many bytes of memory."""
    found: LRUCache[tuple[str | None, str], tuple[array[int], int]]
    found = LRUCache(most_bytes, getsizeof=itemgetter(1))

    def encode_owned(owner: str | None, text: str) -> Sequence[int]:
        held = found.get((owner, text))
        if held is not None:
            return held[0]
        tokens = array("I", encode(text))  # a tenth of what a tuple of numbers takes
        size = _ENTRY_BYTES + sys.getsizeof(text) + sys.getsizeof(tokens)
        if size <= most_bytes:
            found[owner, text] = tokens, size
        return tokens

    return encode_owned


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer of a model folder, from its files alone."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    # Not verbose: it would warn of texts that are longer than the model reads, which prompts cut.
    plain = {"add_special_tokens": False, "verbose": False}
    encode_owned = kept(partial(tokenizer.encode, **plain))

    def starts(text: str) -> Sequence[int]:
        offsets = tokenizer(text, return_offsets_mapping=True, **plain)["offset_mapping"]
        return [start for start, _ in offsets]

    begin = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
    return Tokenizer(
        partial(encode_owned, None),
        begin,
        tokenizer.eos_token_id,
        encode_owned,
        starts if tokenizer.is_fast else word_starts,  # those in Python tell no places
    )
