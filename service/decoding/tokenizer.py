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

from service.conversation.prompts.tokens import Encode, Starts, word_starts
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

# The size of the cache of segments' tokens, as histories repeat from turn to turn; the oldest are
# discarded first. It holds 70,000 lines of 60 characters.
KEPT_BYTES = 64 * 2**20

# A cache entry's size besides its text and tokens: a key, a number, its slots in three tables.
_ENTRY_BYTES = 700

# Special tokens of text; all others stand for other media.
_ROLES = frozenset(f"{role}_token" for role in ("bos", "eos", "unk", "pad", "sep", "cls", "mask"))


class OwnedEncode(Protocol):
    """Maps an owner's text to token ids, cached for that owner alone; None: for no owner."""

    def __call__(self, owner: str | None, text: str) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """
    Attributes:
        encode: maps a text to token ids, without special tokens. Not thread-safe.
        begin: the token ids that every prompt begins with.
        end: the token that closes a target, if there is one.
        encode_owned: `encode` with a cache by owner; None: nothing is cached.
        starts: maps a text to the offsets of the tokens that `encode` makes.
    """

    encode: Encode
    begin: tuple[int, ...]
    end: int | None
    encode_owned: OwnedEncode | None = None
    starts: Starts = word_starts

    def encode_for(self, owner: str | None) -> Encode:
        """`encode` with a cache that only this owner shares.

        So timing reveals nothing of other owners' texts.
        """
        return self.encode if self.encode_owned is None else partial(self.encode_owned, owner)


def kept(encode: Encode, most_bytes: int = KEPT_BYTES) -> OwnedEncode:
    """Cache the tokens of the most recently encoded texts, in `most_bytes` of memory."""
    cache: LRUCache[tuple[str | None, str], tuple[array[int], int]]
    cache = LRUCache(most_bytes, getsizeof=itemgetter(1))

    def encode_owned(owner: str | None, text: str) -> Sequence[int]:
        entry = cache.get((owner, text))
        if entry is not None:
            return entry[0]
        tokens = array("I", encode(text))  # a tenth of the size of a tuple
        size = _ENTRY_BYTES + sys.getsizeof(text) + sys.getsizeof(tokens)
        if size <= most_bytes:
            cache[owner, text] = tokens, size
        return tokens

    return encode_owned


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer of a model folder, from its files alone.

    Raises:
        ModelFolderError: there is none, it cannot be loaded, or the folder's weights, if there are
            any, have no row for one of its tokens.
    """
    check_folder(folder, download_of(folder))
    # Without its files, transformers makes a tokenizer with an empty vocabulary.
    check_tokenizer_files(folder)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        vocabulary: Mapping[str, int] = tokenizer.get_vocab()
    except Exception as error:  # transformers' errors have no common root
        reason = f"{type(error).__name__}: {first_line(error)}"
        subject = folder / CONFIG if not _is_read(folder) else f"{folder}: its tokenizer"
        raise ModelFolderError(
            f"{subject} cannot be loaded: {reason}",
            "fetch or copy its files again from the source of the model",
        ) from error
    _check_rows(folder, vocabulary)
    # Not verbose: it would warn of texts longer than the model reads, which prompts truncate.
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
        starts if tokenizer.is_fast else word_starts,  # slow tokenizers report no offsets
    )


def _begin(tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """The BOS token; else the tokens that the tokenizer puts before any text, as GLM's does.

    Empty if it adds tokens on both sides, as an encoder's tokenizer does.
    """
    if tokenizer.bos_token_id is not None:
        return (tokenizer.bos_token_id,)
    whole, plain = (tokenizer.encode("a", add_special_tokens=added) for added in (True, False))
    before = len(whole) - len(plain)
    return tuple(whole[:before]) if whole[before:] == plain else ()


def _is_read(folder: Path) -> bool:
    """Whether transformers can read the model's configuration, which selects the tokenizer."""
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception:  # as above
        return not (folder / CONFIG).exists()
    return True


def _check_rows(folder: Path, vocabulary: Mapping[str, int]) -> None:
    """Check that the word table has a row for each token of text.

    Args:
        vocabulary: token ids by token.

    Raises:
        ModelFolderError: it has fewer.
    """
    if not holds_weights(folder):
        return
    rows = max(word_tables(look_at_weights(folder)[0]).values(), default=None)
    if rows is None:
        return
    # Families of models share a tokenizer: a multimodal model has rows for image tokens, a text
    # model does not, and no text contains them.
    other_tokens = _tokens_of_other_kinds(folder)
    rowless = {
        n: token for token, n in vocabulary.items() if n >= rows and token not in other_tokens
    }
    if rowless:
        first, file = min(rowless), folder / "tokenizer.json"
        raise ModelFolderError(
            f"{file if file.exists() else folder}: the embedding matrix of the weights has {rows} "
            f"rows, and none for {len(rowless)} of the tokens, such as {rowless[first]!r} "
            f"({first})",
            "use the tokenizer that came with the weights, or save both again after "
            "resize_token_embeddings",
        )


def _tokens_of_other_kinds(folder: Path) -> set[str]:
    """Tokens that stand for an image, audio or video."""
    path = folder / "tokenizer_config.json"
    config = read_json(path) if path.exists() else {}
    extra = config.get("extra_special_tokens")
    entries = {**config, **(extra if isinstance(extra, dict) else {})}
    return {
        token
        for key, token in entries.items()
        if key.endswith("_token") and key not in _ROLES and isinstance(token, str)
    }
