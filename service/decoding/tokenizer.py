"""The bundle's tokenizer for prompts."""

import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cachetools import LRUCache

from service.conversation.prompts.endings import Starts, word_starts
from service.conversation.prompts.tokens import Encode
from service.decoding.model_files import ModelFolderError, read_json
from service.decoding.model_folder import (
    CONFIG,
    check_folder,
    check_tokenizer_files,
    download_of,
    holds_weights,
    look_at_weights,
    word_tables,
)
from service.failures import first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Histories repeat from turn to turn; a segment's tokens are kept until newer ones push them out. So
# many bytes hold 70,000 lines of 60 characters.
KEPT_BYTES = 64 * 2**20

# What a segment takes beside its text and its tokens: a key, a number, its places in three tables.
_ENTRY_BYTES = 700

# What text may begin with, end with or be filled with.
_ROLES = frozenset(f"{role}_token" for role in ("bos", "eos", "unk", "pad", "sep", "cls", "mask"))


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
    """Load the tokenizer of a model folder, from its files alone.

    Raises:
        ModelFolderError: there is none, it cannot be loaded, or it makes tokens of texts that the
            folder's weights, if there are any, have no row for.
    """
    check_folder(folder, download_of(folder))
    # Without these, transformers makes one of no words.
    check_tokenizer_files(folder)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        numbers: Mapping[str, int] = tokenizer.get_vocab()
    except Exception as error:  # transformers' errors have no common root
        said = f"{type(error).__name__}: {first_line(error)}"
        what = folder / CONFIG if not _is_read(folder) else f"{folder}: its tokenizer"
        raise ModelFolderError(
            f"{what} cannot be loaded: {said}",
            "fetch or copy its files again, from where the model comes from",
        ) from error
    _check_rows(folder, numbers)
    # Not verbose: it would warn of texts that are longer than the model reads, which prompts cut.
    plain = {"add_special_tokens": False, "verbose": False}
    encode_owned = kept(partial(tokenizer.encode, **plain))

    def starts(text: str) -> Sequence[int]:
        offsets = tokenizer(text, return_offsets_mapping=True, **plain)["offset_mapping"]
        return [start for start, _ in offsets]

    return Tokenizer(
        partial(encode_owned, None),
        _begin(tokenizer),
        tokenizer.eos_token_id,
        encode_owned,
        starts if tokenizer.is_fast else word_starts,  # those in Python tell no places
    )


def _begin(tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """The token that begins a text; else what the tokenizer puts before any, as GLM's does.

    Not what frames a text on both sides: that is an encoder's.
    """
    if tokenizer.bos_token_id is not None:
        return (tokenizer.bos_token_id,)
    whole, plain = (tokenizer.encode("a", add_special_tokens=added) for added in (True, False))
    before = len(whole) - len(plain)
    return tuple(whole[:before]) if whole[before:] == plain else ()


def _is_read(folder: Path) -> bool:
    """Whether transformers reads the configuration of the model, by which it finds a tokenizer."""
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception:  # as above
        return not (folder / CONFIG).exists()
    return True


def _check_rows(folder: Path, numbers: Mapping[str, int]) -> None:
    """See that the word table has a row for each token that a text may become.

    Args:
        numbers: of all tokens.

    Raises:
        ModelFolderError: it has fewer.
    """
    if not holds_weights(folder):
        return
    rows = max(word_tables(look_at_weights(folder)[0]).values(), default=None)
    if rows is None:
        return
    # Families of models share a tokenizer: one that sees has rows for a picture's tokens, one that
    # only reads has not, and no text is meant to have any.
    of_others = _tokens_of_other_kinds(folder)
    beyond = {n: token for token, n in numbers.items() if n >= rows and token not in of_others}
    if beyond:
        first, file = min(beyond), folder / "tokenizer.json"
        raise ModelFolderError(
            f"{file if file.exists() else folder}: the weights' word table has {rows} rows, and "
            f"none for {len(beyond)} of the tokens, such as {beyond[first]!r} ({first})",
            "take the tokenizer that came with the weights, or save both again after "
            "resize_token_embeddings",
        )


def _tokens_of_other_kinds(folder: Path) -> set[str]:
    """Tokens that stand for a picture, a sound or a film."""
    path = folder / "tokenizer_config.json"
    described = read_json(path) if path.exists() else {}
    extra = described.get("extra_special_tokens")
    named = {**described, **(extra if isinstance(extra, dict) else {})}
    return {
        token
        for key, token in named.items()
        if key.endswith("_token") and key not in _ROLES and isinstance(token, str)
    }
