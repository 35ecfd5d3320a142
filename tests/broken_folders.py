"""Folders of models as downloads, copies and mix-ups leave them, made of sound ones."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BASE = ROOT / "build" / "base" / "minilm-causal"
BUNDLE = ROOT / "build" / "bundles" / "erc-mini"
ADAPTER = ROOT / "data" / "adapters" / "erc-mini"

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db\nsize 90269448\n"
)
PAGE = "\n<!DOCTYPE html>\n<html><body>Please log in.</body></html>\n"


@dataclass(frozen=True, slots=True)
class Broken:
    """What is done to a sound folder, and what a command is to say of it.

    Attributes:
        problem: the file, from the folder's name on, and what is wrong.
        remedy: what to do.
    """

    spoil: Callable[[Path], object]
    problem: str
    remedy: str


def linked(source: Path, folder: Path) -> Path:
    """A folder like another, of links to its files."""
    folder.mkdir(parents=True)
    for path in source.iterdir():
        (folder / path.name).symlink_to(path.resolve())
    return folder


def put(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Have a file of this content, in place of the one that there is."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)

    return spoil


def half(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / name
        size = path.stat().st_size
        with path.open("rb") as whole:
            begun = whole.read(size // 2)
        put(name, begun)(folder)

    return spoil


def without(*names: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def changed(name: str, /, **changes: Any) -> Callable[[Path], None]:
    """Change keys of a file in JSON; None takes one away."""

    def spoil(folder: Path) -> None:
        described = json.loads((folder / name).read_text()) | changes
        kept = {key: value for key, value in described.items() if value is not None}
        put(name, json.dumps(kept))(folder)

    return spoil


def weights(tensors: Mapping[str, tuple[int, ...]], dtype: str = "F16") -> bytes:
    """A file of safetensors, all zeros, of tensors of these shapes."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in tensors.items():
        begin, size = end, 1 if dtype == "U8" else 2
        for number in shape:
            size *= number
        end += size
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    described = json.dumps(header).encode()
    return len(described).to_bytes(8, "little") + described + bytes(end)


def _another_kind(name: str) -> Callable[[Path], None]:
    """Rename the weights, which then are in another format as far as can be told."""

    def spoil(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / name)

    return spoil


def _sharded(*names: str, index: Mapping[str, str] | None = None) -> Callable[[Path], None]:
    """Have the weights in shards: each has one tensor of its number."""

    def spoil(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        for name in names:
            put(name, weights({f"t{int(name[6:11])}": (2, 2)}))(folder)
        if index is not None:
            put("model.safetensors.index.json", json.dumps({"weight_map": index}))(folder)

    return spoil


def _folder_in_place(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


def _lost_blob(folder: Path) -> None:
    """As of a hub's cache of which the blobs were cleared away."""
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../../blobs/53aa51")


def _circle(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")


def _pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def _more_tokens(folder: Path) -> None:
    """As after `tokenizer.add_tokens` without `model.resize_token_embeddings`."""
    described = json.loads((folder / "tokenizer.json").read_text())
    for number, token in enumerate(("<laugh>", "<sigh>"), 30522):
        added = {"id": number, "content": token, "special": False, "normalized": False}
        sides = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        described["added_tokens"].append(added | sides)
    put("tokenizer.json", json.dumps(described))(folder)


def _longer_vocabulary(folder: Path) -> None:
    described = json.loads((folder / "tokenizer.json").read_text())
    described["model"]["vocab"] |= {f"zz{number}": number for number in range(30522, 30530)}
    put("tokenizer.json", json.dumps(described))(folder)


def _published(*, pickled: bool = False, **config: object) -> Callable[[Path], None]:
    """Have the configuration of a ChatGLM with code of its own, the weights perhaps pickled."""
    kind = {"model_type": "chatglm", "architectures": ["ChatGLMModel"], "auto_map": {"A": "m.C"}}

    def spoil(folder: Path) -> None:
        put("config.json", json.dumps(kind | config))(folder)
        if pickled:
            _another_kind("pytorch_model.bin")(folder)

    return spoil


AGAIN = "fetch or copy the file again"
PLACE = "from the same source"

# Of a base as of a bundle.
MODELS = {
    "pointer-weights": Broken(
        put("model.safetensors", POINTER),
        "model.safetensors: is a git-lfs pointer",
        "`git lfs pull`",
    ),
    "half-weights": Broken(
        half("model.safetensors"), "model.safetensors: has ", "was interrupted; " + AGAIN
    ),
    "half-a-header": Broken(
        put("model.safetensors", weights({"a.weight": (2, 2)})[:30]),
        "model.safetensors: has 30 bytes of more than ",
        AGAIN,
    ),
    "longer-weights": Broken(
        put("model.safetensors", weights({"a.weight": (2, 2)}) + b"more"),
        "model.safetensors: has ",
        AGAIN,
    ),
    "empty-weights": Broken(put("model.safetensors", ""), "model.safetensors: is empty", AGAIN),
    "page-weights": Broken(
        put("model.safetensors", PAGE), "model.safetensors: is a web page", "`hf download`"
    ),
    "message-weights": Broken(
        put("model.safetensors", "Entry not found"),
        "model.safetensors: is not a safetensors file: it says 'Entry not found'",
        AGAIN,
    ),
    "pickled-weights": Broken(
        put("model.safetensors", b"PK\x03\x04" + bytes(400)),
        "model.safetensors: is not a safetensors file",
        AGAIN,
    ),
    "weights-of-wrong-measure": Broken(
        put("model.safetensors", weights({"a": (2, 2)}).replace(b"[2, 2]", b"[2, 9]")),
        "model.safetensors: is not a safetensors file",
        AGAIN,
    ),
    "folder-in-place": Broken(_folder_in_place, "model.safetensors: is a folder", "remove it"),
    "lost-blob": Broken(
        _lost_blob,
        "model.safetensors: is a link to ../../blobs/53aa51, which does not exist",
        "cp -L",
    ),
    "no-weights": Broken(
        without("model.safetensors"), "contains no weights (*.safetensors)", "fetch or copy them"
    ),
    "bin": Broken(
        _another_kind("pytorch_model.bin"),
        "contains no weights (*.safetensors)",
        "pytorch_model.bin is not read, because loading it may run code: use a revision with",
    ),
    "gguf": Broken(
        _another_kind("minilm-q4.gguf"),
        "contains no weights (*.safetensors)",
        "minilm-q4.gguf is quantised: use the model that it was made from",
    ),
    "lost-shard": Broken(
        _sharded("model-00001-of-00002.safetensors", index={
            "t1": "model-00001-of-00002.safetensors", "t2": "model-00002-of-00002.safetensors",
        }),
        "model-00002-of-00002.safetensors: No such file",
        AGAIN,
    ),
    "lost-shard-and-index": Broken(
        _sharded("model-00002-of-00002.safetensors"),
        "model-00001-of-00002.safetensors: No such file",
        AGAIN,
    ),
    "another-shard": Broken(
        _sharded("model-00001-of-00001.safetensors", index={
            "t1": "model-00001-of-00001.safetensors", "t7": "model-00001-of-00001.safetensors",
        }),
        "model-00001-of-00001.safetensors: has no t7, although model.safetensors.index.json lists",
        PLACE,
    ),
    "index-of-nothing": Broken(
        put("model.safetensors.index.json", '{"weight_map": ["a"]}'),
        "model.safetensors.index.json: is not an index of weights",
        AGAIN,
    ),
    "pointer-config": Broken(
        put("config.json", POINTER), "config.json: is a git-lfs pointer", "`git lfs pull`"
    ),
    "half-config": Broken(half("config.json"), "config.json: is not JSON: line ", AGAIN),
    "config-is-a-list": Broken(
        put("config.json", "[1]"), "config.json: does not contain a JSON obj", AGAIN
    ),
    "deep-config": Broken(
        put("config.json", '{"a":' * 90_000), "config.json: cannot be read as JSON", AGAIN
    ),
    "utf-16-config": Broken(
        put("config.json", "{}".encode("utf-16")), "config.json: is not UTF-8: byte 0", AGAIN
    ),
    "empty-config": Broken(put("config.json", ""), "config.json: is empty", AGAIN),
    "no-config": Broken(without("config.json"), "config.json: No such file", AGAIN),
    "circle": Broken(_circle, "config.json: ", "its links form a circle"),
    "pipe": Broken(_pipe, "config.json: is not a regular file", "fetch or copy the file"),
    "encoder-decoder": Broken(
        changed("config.json", model_type="t5", is_encoder_decoder=True),
        "config.json: t5 is an encoder-decoder model",
        "use a causal language model",
    ),
    "classifier": Broken(
        changed("config.json", architectures=["BertForSequenceClassification"]),
        "config.json: BertForSequenceClassification is not a causal language model",
        "use a causal language model",
    ),
    "another-vocabulary": Broken(
        changed("config.json", vocab_size=32000),
        "config.json: vocab_size is 32000, but model.decoder.embed_tokens.weight in the weights "
        "has 30522 rows",
        PLACE,
    ),
    "no-tokenizer": Broken(
        without("tokenizer.json", "tokenizer_config.json"),
        "contains no tokenizer (tokenizer.json or tokenizer.model)",
        "fetch or copy its files",
    ),
    "no-vocabulary": Broken(
        without("tokenizer.json"),
        "contains no tokenizer (tokenizer.json or tokenizer.model)",
        "fetch or copy its files",
    ),
    "pointer-tokenizer": Broken(
        put("tokenizer.json", POINTER), "tokenizer.json: is a git-lfs pointer", "git lfs pull"
    ),
    "half-tokenizer": Broken(half("tokenizer.json"), "tokenizer.json: is not JSON: line ", AGAIN),
    "page-tokenizer-config": Broken(
        put("tokenizer_config.json", PAGE), "tokenizer_config.json: is a web page", "hf download"
    ),
    "pointer-vocabulary": Broken(
        put("tokenizer.model", POINTER), "tokenizer.model: is a git-lfs pointer", "git lfs pull"
    ),
    "page-generation-config": Broken(
        put("generation_config.json", PAGE),
        "generation_config.json: is a web page that was saved instead of the file",
        "fetch the file itself",
    ),
    "strange-tokenizer": Broken(
        put("tokenizer.json", '{"model": {"type": "Telepathy"}}'),
        "its tokenizer cannot be loaded: ",
        "fetch or copy its files again",
    ),
    "more-tokens": Broken(
        _more_tokens,
        "tokenizer.json: the embedding matrix of the weights has 30522 rows, and none for "
        "2 of the tokens, such as '<laugh>' (30522)",
        "resize_token_embeddings",
    ),
    "longer-vocabulary": Broken(
        _longer_vocabulary, "and none for 8 of the tokens, such as 'zz30522' (30522)", "resize_"
    ),
}  # fmt: skip

# Of a base alone.
BASES = {
    "quantised": Broken(
        changed("config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        "config.json: the base is quantised (gptq)",
        "use the model that it was made from",
    ),
    "quantised-unsaid": Broken(
        put("model.safetensors", weights({"model.layers.0.q_proj.weight": (2, 2)}, "U8")),
        "config.json: the base is quantised (as its weights show)",
        "use the model that it was made from",
    ),
    "encoder": Broken(
        changed("config.json", model_type="bert", architectures=["BertModel"]),
        "config.json: bert is an encoder",
        "use a causal language model",
    ),
    "unknown-kind": Broken(
        changed("config.json", model_type="telepathy"),
        "config.json: transformers has no causal language model called telepathy",
        "use a causal language model",
    ),
    "code-of-its-own": Broken(
        changed("config.json", model_type="telepathy", auto_map={"AutoConfig": "c.C"}),
        "config.json: telepathy needs code from the model's folder",
        "use a causal language model",
    ),
    "chatglm-6b": Broken(
        _published(position_encoding_2d=True, inner_hidden_size=16384, max_sequence_length=2048),
        "config.json: is ChatGLM-6B or another of the first GLMs, which read a prompt in both "
        "directions and count positions in two dimensions",
        "use ChatGLM2-6B",
    ),
    "chatglm-6b-of-no-word-on-positions": Broken(
        _published(inner_hidden_size=16384),
        "config.json: is ChatGLM-6B or another of the first GLMs",
        "use ChatGLM2-6B",
    ),
    "glm-10b": Broken(
        changed("config.json", model_type="glm", block_position_encoding=True),
        "config.json: is ChatGLM-6B or another of the first GLMs",
        "use ChatGLM2-6B",
    ),
    "chatglm2": Broken(
        _published(ffn_hidden_size=13696, multi_query_group_num=2, padded_vocab_size=65024),
        "config.json: is a ChatGLM in its published format, which needs code from the model's "
        "folder",
        "convert it (`instructerc-train base --from ",
    ),
    "chatglm2-pickled": Broken(
        _published(ffn_hidden_size=13696, pickled=True),
        "config.json: is a ChatGLM in its published format",
        "convert it",
    ),
    "no-kind": Broken(
        changed("config.json", model_type=None), "config.json: has no model_type", AGAIN
    ),
    "strange-type": Broken(
        changed("config.json", dtype="bf16"),
        "config.json: dtype: 'bf16' is not a torch type",
        "write the type of the weights: bfloat16",
    ),
    "strange-width": Broken(
        changed("config.json", hidden_size="wide"),
        "config.json: transformers cannot make a model from it: ",
        "fetch it again",
    ),
    "strange-heads": Broken(
        changed("config.json", num_attention_heads=5),
        "config.json: transformers cannot make a model from it: ValueError: embed_dim must be",
        PLACE,
    ),
    "more-layers": Broken(
        changed("config.json", num_hidden_layers=8),
        "config.json: it defines model.decoder.layers.6.",
        "which the weights do not have; fetch or copy configuration and weights from the same "
        "source",
    ),
    "another-width": Broken(
        changed("config.json", ffn_dim=768),
        "config.json: it gives model.decoder.layers.0.fc1.weight the shape [768, 384], but the "
        "weights have [1536, 384]",
        PLACE,
    ),
    "no-head": Broken(
        changed("config.json", tie_word_embeddings=False),
        "config.json: the weights have no lm_head.weight: they are not those of a language model",
        PLACE,
    ),
}  # fmt: skip
