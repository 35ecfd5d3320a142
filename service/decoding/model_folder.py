"""Checks of a Hugging Face model folder before it is loaded.

A check takes milliseconds and reads no weights. It refuses a folder that cannot be loaded or would
load as something else; what it does not know it accepts, and leaves to the libraries.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.decoding.model_files import (
    AGAIN,
    ModelFolderError,
    Tensor,
    check_file,
    read_header,
    read_json,
)

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
_SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
# Any of these makes a tokenizer; the last lines match vocabularies of other names.
_TOKENIZERS = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"),
    *("*.model", "*.tiktoken", "*vocab*", "tekken.json", "tokenizer*.py", "tokenization*.py"),
)
_JSON = (
    *("generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json"),
)
_OTHER_VOCABULARIES = ("*.model", "*.tiktoken", "vocab.txt", "merges.txt")
_OTHER_WEIGHTS = ("pytorch_model*.bin", "*.bin", "*.gguf", "*.pth", "*.pt", "*.h5", "*.msgpack")
# Names of a model's word embedding table; never of its position table.
_WORD_TABLES = {
    *("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "embeddings"),
}
_HEADS = {"lm_head", "output_layer", "embed_out"}
_NUMBERS = ("F64", "F32", "F16", "BF16")  # types of weights that are not quantised
# Endings of architecture names that no causal language model has.
_OTHER_ARCHITECTURES = re.compile(
    r"For(MaskedLM|PreTraining|SequenceClassification|TokenClassification|QuestionAnswering"
    r"|MultipleChoice|NextSentencePrediction|SpeechSeq2Seq|ImageClassification)$"
)
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
CAUSAL = "use a causal language model, such as Qwen3, Llama or OPT"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A description of the model in a folder.

    Attributes:
        config: `config.json`.
        tensors: the weights' tensors, by name.
        size: the weights' size in bytes.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    size: int

    @property
    def is_quantised(self) -> bool:
        """Whether its weights are codes for numbers rather than numbers."""
        return bool(self.config.get("quantization_config")) or any(self._coded())

    @property
    def quantised_head(self) -> str | None:
        """The tensor of its output layer, if that is quantised."""
        return next((name for name in self._coded() if name.split(".")[-2] in _HEADS), None)

    def _coded(self) -> Iterator[str]:
        for name, tensor in self.tensors.items():
            coded = name.endswith(".weight") and tensor.dtype not in _NUMBERS
            if len(tensor.shape) == 2 and (coded or name.endswith((".qweight", ".weight_packed"))):
                yield name


def word_tables(tensors: Mapping[str, Tensor]) -> Mapping[str, int]:
    """The number of rows of each word embedding table, by its name; empty if none is known."""
    return {
        name: tensor.shape[0]
        for name, tensor in tensors.items()
        if len(tensor.shape) == 2
        and name.endswith(".weight")
        and name.split(".")[-2] in _WORD_TABLES
    }


def check_folder(folder: Path, remedy: str) -> None:
    """Check that a folder exists, is readable, and is not a hub's cache.

    Args:
        remedy: for a folder that does not exist.

    Raises:
        ModelFolderError: it does not, cannot be read, or is a cache.
    """
    try:
        names = {path.name for path in folder.iterdir()}
    except NotADirectoryError:
        raise ModelFolderError(
            f"{folder}: is not a folder", "name the folder that contains it"
        ) from None
    except FileNotFoundError:
        if folder.is_symlink():
            raise ModelFolderError(
                f"{folder}: is a link to {folder.readlink()}, which does not exist", remedy
            ) from None
        raise ModelFolderError(f"{folder}: there is no such folder", remedy) from None
    except OSError as error:
        raise ModelFolderError(
            f"{folder}: {error.strerror}", "let whoever runs this read it, or name another"
        ) from None
    if {"snapshots", "blobs"} <= names:
        snapshot = next(iter(sorted(folder.glob("snapshots/*"))), folder / "snapshots" / "COMMIT")
        raise ModelFolderError(f"{folder}: is a hub cache of a model", f"name {snapshot}")


def download_of(folder: Path) -> str:
    """How to get a model, given a path that may be its name on a hub."""
    named = re.sub(r"^https?:/+[\w.]+/", "", str(folder))
    name = named if _HUB_NAME.fullmatch(named) else "NAME"
    return (
        f"nothing is downloaded from a hub here: download the model (`hf download {name} "
        "--local-dir BASE`) and name its folder BASE"
    )


def look_at(folder: Path, *, weights: bool = True) -> ModelFolder:
    """Check the files of a model, and describe it.

    Args:
        weights: whether they are in the folder; if not, the description has none.

    Raises:
        ModelFolderError: there is no model, a file is missing or broken, or the model is not a
            causal language model.
    """
    check_folder(folder, download_of(folder))
    if _is_there(folder / ADAPTER_CONFIG):
        adapter_config = read_json(folder / ADAPTER_CONFIG)
        name = adapter_config.get("base_model_name_or_path") or "its base"
        raise ModelFolderError(
            f"{folder}: is an adapter, because it contains {ADAPTER_CONFIG}",
            f"name the folder of the whole model that it was trained on ({name})",
        )
    if weights and not _is_there(folder / CONFIG) and not holds_weights(folder):
        nested = [path.parent for path in folder.glob(f"*/{CONFIG}")]
        if len(nested) == 1:
            raise ModelFolderError(f"{folder}: contains no model", f"name {nested[0]}")
    tensors, size = look_at_weights(folder) if weights else ({}, 0)
    config = read_json(folder / CONFIG)
    model = ModelFolder(folder, config, tensors, size)
    _check_kind(folder / CONFIG, config)
    _check_words(model)
    check_tokenizer_files(folder)
    return model


def look_at_weights(folder: Path) -> tuple[Mapping[str, Tensor], int]:
    """The tensors of a folder's safetensors files, by name, and the files' total bytes.

    Raises:
        ModelFolderError: there are none, or a file is missing, broken or of another format.
    """
    if _is_there(folder / INDEX):
        return _indexed(folder)
    if _is_there(folder / WHOLE):
        return read_header(folder / WHOLE)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelFolderError(
            f"{folder}: contains no weights (*.safetensors)", _weights_for(folder)
        )
    _check_all_shards(files)
    headers = [read_header(path) for path in files]
    return _together(tensors for tensors, _ in headers), sum(size for _, size in headers)


def check_tokenizer_files(folder: Path) -> None:
    """Check that a folder has a tokenizer's files, and that they are intact.

    Raises:
        ModelFolderError: a file is missing or broken.
    """
    if not has_tokenizer(folder):
        raise ModelFolderError(
            f"{folder}: contains no tokenizer (tokenizer.json or tokenizer.model)",
            "fetch or copy its files from the source of the model",
        )
    for name in _JSON:
        if _is_there(folder / name):
            read_json(folder / name)
    for pattern in _OTHER_VOCABULARIES:
        for path in folder.glob(pattern):
            check_file(path)


def holds_weights(folder: Path) -> bool:
    """Whether a folder has safetensors files, intact or not."""
    return any(folder.glob("*.safetensors")) or _is_there(folder / INDEX)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has files that may be a tokenizer's vocabulary."""
    return any(any(folder.glob(pattern)) for pattern in _TOKENIZERS)


def _is_there(path: Path) -> bool:
    """Whether a path exists, including as a broken link."""
    return path.is_symlink() or path.exists()


def _indexed(folder: Path) -> tuple[Mapping[str, Tensor], int]:
    index = folder / INDEX
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(name, str) and name for name in weight_map.values()
    ):
        raise ModelFolderError(f"{index}: is not an index of weights (weight_map)", AGAIN)
    shards = {name: read_header(folder / name) for name in sorted(set(weight_map.values()))}
    for tensor, shard in weight_map.items():
        if tensor not in shards[shard][0]:
            raise ModelFolderError(
                f"{folder / shard}: has no {tensor}, although {INDEX} lists it",
                "fetch or copy all weight files again, from the same source",
            )
    return (
        _together(tensors for tensors, _ in shards.values()),
        sum(size for _, size in shards.values()),
    )


def _together(shards: Iterable[Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    return {name: tensor for tensors in shards for name, tensor in tensors.items()}


def _check_all_shards(files: Iterable[Path]) -> None:
    for path in files:
        if shard := _SHARD.fullmatch(path.name):
            total = shard[2]
            for number in range(1, int(total) + 1):
                sibling = path.with_name(f"model-{number:05}-of-{total}.safetensors")
                if not _is_there(sibling):
                    raise ModelFolderError(f"{sibling}: No such file or directory", AGAIN)


def _weights_for(folder: Path) -> str:
    """The remedy for a folder without safetensors, by the weights that it has instead."""
    others = (path for pattern in _OTHER_WEIGHTS for path in sorted(folder.glob(pattern)))
    other = next(others, None)
    if other is None:
        return "fetch or copy them"
    if other.suffix == ".gguf":
        return f"{other.name} is quantised: use the model that it was made from"
    return (
        f"{other.name} is not read, because loading it may run code: use a revision with "
        "safetensors or, if you trust it, load it with transformers and save it into another "
        "folder with save_pretrained"
    )


def _check_kind(path: Path, config: Mapping[str, Any]) -> None:
    """Check that a configuration is not clearly that of another kind of model."""
    names = config.get("architectures")
    architectures = [str(name) for name in names] if isinstance(names, list) else []
    if config.get("is_encoder_decoder") is True:
        raise ModelFolderError(f"{path}: {_kind(config)} is an encoder-decoder model", CAUSAL)
    if architectures and all(map(_OTHER_ARCHITECTURES.search, architectures)):
        raise ModelFolderError(f"{path}: {architectures[0]} is not a causal language model", CAUSAL)


def _kind(config: Mapping[str, Any]) -> str:
    return str(config.get("model_type") or "the model")


def _check_words(model: ModelFolder) -> None:
    """Check that configuration and weights have the same vocabulary size."""
    sizes = set(_vocabularies(model.config))
    tables = word_tables(model.tensors)
    if sizes and tables and not model.is_quantised and not sizes & {*tables.values()}:
        name, rows = next(iter(tables.items()))
        raise ModelFolderError(
            f"{model.folder / CONFIG}: vocab_size is {min(sizes)}, but {name} in the weights has "
            f"{rows} rows",
            "fetch or copy configuration and weights from the same source",
        )


def _vocabularies(config: Mapping[str, Any]) -> Iterator[int]:
    """Every vocabulary size in a configuration or a part of it."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _vocabularies(value)
        elif key.endswith("vocab_size") and isinstance(value, int):
            yield value
