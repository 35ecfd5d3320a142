"""Converts the tokenizers of ChatGLM2, ChatGLM3 and GLM-4-9B, which are code, to plain files.

Of the first two, what must be so: pieces are joined as sentencepiece's BPE joins them; the special
tokens [MASK], [gMASK], [sMASK], sop and eop follow the pieces in this order; every text begins with
[gMASK] and sop; and no text becomes a special token, but for a piece of the very name of one, which
the published code takes for it. GLM-4-9B joins bytes as tiktoken does, and `tokenizer_config.json`
says which special tokens it has.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.decoding.model_files import AGAIN, ModelFolderError, check_file, read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_VOCABULARY = "tokenizer.model"
_SPECIAL = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
_BPE = 2  # among sentencepiece's kinds of models
_NORMAL, _USER_DEFINED = 1, 4  # among its kinds of pieces
_RANK = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")
# Ways in which texts begin, go on and end that tokenizers have come to differ in.
_PROBES = (
    *("", " ", "Hello", " Hello", "Hello ", "  two  spaces  ", "a\nb", "\n", "\n\n a", "\tb"),
    *("Oh my God!", "I don't know, we'll see...", "<Speaker_0>: I'm FINE.", "It's 12:30, 1024 km."),
    *("the label of emotion is <joyful>", "philosophy of the sop", "[gMASK] sop </s> <unk> <s>"),
    *(
        "你好",
        "今天天气很好，我们去公园吧。",
        "中文 and English 混合",
        "ご飯を食べる",
        "안녕하세요",
    ),
    *("ﬁne ① Ａｂｃ", "naïve café, cafe\u0301", "🙂 👩‍👧", "\u00a0x\u3000y", "x = {'a': [1, 2]};"),
    *("Привет, как дела?", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "aaaaaaaaaaaaaaa", "▁a ▁"),
)


def write_tokenizer(source: Path, folder: Path, rows: int) -> None:
    """Write a tokenizer that transformers loads without code.

    Args:
        rows: of the word table.

    Raises:
        ModelFolderError: a file is missing or broken, the vocabulary is of another kind, or it
            makes other tokens of a text than what it was made of.
    """
    from transformers import PreTrainedTokenizerFast

    path = source / _VOCABULARY
    check_file(path)
    data = path.read_bytes()
    if _RANK.match(data):
        made, ids, special = _of_ranks(path, data, source)
    else:
        made, ids, special = _of_pieces(path, data)
    _check_same(path, made, ids)
    if (count := made.get_vocab_size()) > rows:
        raise ModelFolderError(
            f"{path}: has {count} tokens, but the embedding matrix has {rows} rows",
            "use the tokenizer that came with the weights",
        )
    PreTrainedTokenizerFast(
        tokenizer_object=made, clean_up_tokenization_spaces=False, **special
    ).save_pretrained(folder)


Ids = Callable[[str], Sequence[int]]
"""Token ids of a text, without special tokens, as the original makes them."""


def _check_same(path: Path, made: "Tokenizer", ids: Ids) -> None:
    for text in _PROBES:
        ours, theirs = made.encode(text, add_special_tokens=False).ids, [*ids(text)]
        if ours != theirs:
            raise ModelFolderError(
                f"{path}: the converted tokenizer turns {text!r} into {ours} instead of {theirs}",
                "use a base whose tokenizer needs no conversion",
            )


def _of_pieces(path: Path, data: bytes) -> tuple["Tokenizer", Ids, dict[str, Any]]:
    """ChatGLM2's and ChatGLM3's, of sentencepiece's pieces."""
    from sentencepiece import SentencePieceProcessor
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors
    from transformers.convert_slow_tokenizer import generate_merges, import_protobuf

    try:
        pieces = SentencePieceProcessor(model_proto=data)
    except RuntimeError:
        raise ModelFolderError(f"{path}: is not a sentencepiece model", AGAIN) from None
    proto = import_protobuf().ModelProto()
    proto.ParseFromString(data)
    trainer = proto.trainer_spec
    if trainer.model_type != _BPE or trainer.treat_whitespace_as_suffix:
        raise ModelFolderError(
            f"{path}: is a sentencepiece model, but not a BPE like those of ChatGLM2 and ChatGLM3",
            "fetch it again from the source of the model",
        )
    vocabulary = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    scores = [(p.piece, p.score) for p in proto.pieces if p.type == _NORMAL]
    parts = {piece: vocabulary[piece] for piece, _ in scores}
    merges = generate_merges(parts, scores)
    # Not as added tokens, which are found wherever a text has them: in "philosophy", say.
    numbers = {token: len(vocabulary) + n for n, token in enumerate(_SPECIAL)}
    hidden = {f"<piece {token}>": vocabulary[token] for token in numbers if token in vocabulary}
    unknown = pieces.id_to_piece(pieces.unk_id())
    made = Tokenizer(
        models.BPE(
            vocab=vocabulary | numbers | hidden,
            merges=merges,
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=trainer.byte_fallback,
        )
    )
    made.normalizer = _normalizer(proto.normalizer_spec)
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", left=int(proto.normalizer_spec.add_dummy_prefix)),
        ]
    )
    made.add_tokens(
        [
            AddedToken(piece.piece, normalized=False)
            for piece in proto.pieces
            if piece.type == _USER_DEFINED
        ]
    )
    made.post_processor = processors.TemplateProcessing(
        single="[gMASK] sop $A",
        pair="[gMASK] sop $A $B:1",
        special_tokens=[(token, numbers[token]) for token in ("[gMASK]", "sop")],
    )

    def ids(text: str) -> list[int]:
        tokens: list[str] = pieces.encode(text, out_type=str)
        return [numbers[p] if p in numbers else pieces.piece_to_id(p) for p in tokens]

    end = pieces.id_to_piece(pieces.eos_id()) if pieces.eos_id() >= 0 else None
    # So that "</s>" in a text is a text, as sentencepiece has it.
    special = {"unk_token": unknown, "pad_token": unknown, "eos_token": end}
    return made, ids, special | {"split_special_tokens": True}


def _normalizer(spec: Any) -> Any:
    """The normalizer that sentencepiece applies to a text before it looks for pieces."""
    from tokenizers import Regex, normalizers

    steps: list[Any] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex("^ +| +$"), ""), normalizers.Replace(Regex(" +"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend("▁"))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])


def _of_ranks(path: Path, data: bytes, source: Path) -> tuple["Tokenizer", Ids, dict[str, Any]]:
    """GLM-4-9B's, of tiktoken's ranks of bytes."""
    from tiktoken import Encoding
    from tokenizers import AddedToken, processors
    from transformers.convert_slow_tokenizer import TikTokenConverter

    try:
        lines = (line.split() for line in data.splitlines() if line)
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    except (ValueError, binascii.Error):
        raise ModelFolderError(f"{path}: is not a list of tokens and their ranks", AGAIN) from None

    class Converter(TikTokenConverter):  # type: ignore[misc]
        @staticmethod
        def load_tiktoken_bpe(_: str) -> dict[bytes, int]:
            return ranks

    converter = Converter(str(path))
    made: Tokenizer = converter.converted()
    config = source / "tokenizer_config.json"
    settings = read_json(config)
    added = _added_tokens(config, settings)
    for number, token in sorted(added.items()):
        made.add_special_tokens([AddedToken(token, normalized=False, special=True)])
        if made.token_to_id(token) != number:
            raise ModelFolderError(
                f"{config}: added_tokens_decoder gives {token!r} the id {number}, but with "
                f"{path.name} it gets {made.token_to_id(token)}",
                "fetch both again from the same source",
            )
    begin = [token for token in ("[gMASK]", "<sop>") if token in added.values()]
    if len(begin) < 2:
        raise ModelFolderError(f"{config}: added_tokens_decoder has no [gMASK] and <sop>", AGAIN)
    made.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="[gMASK] <sop> $A",
                pair="[gMASK] <sop> $A $B:1",
                special_tokens=[(token, made.token_to_id(token)) for token in begin],
            ),
        ]
    )
    encoding = Encoding(
        path.name,
        pat_str=converter.pattern,
        mergeable_ranks=ranks,
        special_tokens={token: number for number, token in added.items()},
    )

    def ids(text: str) -> Sequence[int]:
        numbers: list[int] = encoding.encode(text, allowed_special="all")
        return numbers

    end = settings.get("eos_token", "<|endoftext|>")
    pad = settings.get("pad_token", end)
    return made, ids, {"eos_token": end, "pad_token": pad}


def _added_tokens(path: Path, settings: Mapping[str, Any]) -> dict[int, str]:
    decoder = settings.get("added_tokens_decoder")
    try:
        return {int(number): str(each["content"]) for number, each in dict(decoder or {}).items()}
    except (ValueError, TypeError, KeyError):
        raise ModelFolderError(f"{path}: added_tokens_decoder is broken", AGAIN) from None
