"""Base models, built from packaged weights without a model hub, or converted."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from service.decoding.model_files import read_json
from service.outputs import Made, check_folder, made_folder
from training.datasets.fingerprint import fingerprint
from training.finetuning import chatglm
from training.finetuning.minilm import MINILM_CAUSAL, WEIGHTS_SHA256, write_minilm_causal
from training.finetuning.smollm2 import GGUF_SHA256, SMOLLM2, write_smollm2

BUILT_HERE = (MINILM_CAUSAL, SMOLLM2)
# Stands in the folder of a base made here, and says from what.
_MADE = "base.json"
_FILES = (
    *(_MADE, "config.json", "generation_config.json", "model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json"),
)


def build_base(name: str, folder: Path, *, force: bool = False) -> None:
    """Write a base as a Hugging Face model folder.

    Args:
        folder: the model stands there only when it is complete, in place of an earlier one.
        force: whether it may take the place of what else is there.

    Raises:
        ValueError: an unknown name, a package that is not installed, or weights other than those
            this was made for.
        OutputError: the folder cannot be written, or holds something else.
    """
    # Each with the hash of the packaged weights that it reads.
    builders: dict[str, tuple[Callable[[Path], None], str]] = {
        MINILM_CAUSAL: (write_minilm_causal, WEIGHTS_SHA256),
        SMOLLM2: (write_smollm2, GGUF_SHA256),
    }
    if name not in builders:
        raise ValueError(f"unknown base {name!r}; known are {', '.join(builders)}")
    check_folder(folder, _BASE, force=force)
    write, sha256 = builders[name]
    with made_folder(folder, _BASE, force=force) as unfinished:
        write(unfinished)
        made = {"name": name, "revision": f"{name}-1:sha256:{sha256}"}
        (unfinished / _MADE).write_text(json.dumps(made) + "\n", encoding="utf-8")


def convert_base(source: Path, folder: Path, *, force: bool = False) -> None:
    """Convert a ChatGLM2, ChatGLM3 or GLM-4-9B, as published, to a model that transformers knows.

    Args:
        source: the folder it was downloaded to; no code in it is run.
        folder, force: as of `build_base`.

    Raises:
        ModelFolderError: it is of another kind of model, or a file is missing or broken.
        OutputError: the folder cannot be written, is what is read, or holds something else.
    """
    check_folder(folder, _BASE, (source,), force=force)
    shape = chatglm.check_source(source)
    with made_folder(folder, _BASE, force=force) as unfinished:
        chatglm.convert(source, shape, unfinished)


def _unlisted(folder: Path) -> Iterable[str]:
    """The files of a base made here that has no list of its contents."""
    try:
        made = json.loads((folder / _MADE).read_bytes())
    except (OSError, ValueError):
        return ()
    match made:
        case {"name": name, "revision": str()} if name in BUILT_HERE:
            return _FILES
    return ()


_BASE = Made("instructerc-train base", _unlisted)


def base_revision(folder: Path) -> str:
    """The identity of a base.

    For a base made here, what it was made from and how: the last bits of its weights may differ
    from machine to machine. For any other, "sha256:" and the hash of its weights, file by file.

    Raises:
        FileNotFoundError: the folder holds no safetensors.
        ModelFolderError: what says how a base was made is broken.
    """
    made = folder / _MADE
    if made.exists() and isinstance(revision := read_json(made).get("revision"), str):
        return revision
    whole = hashlib.sha256()
    for path in _weights_of(folder):
        whole.update(bytes.fromhex(fingerprint(path)))
    return f"sha256:{whole.hexdigest()}"


def _weights_of(folder: Path) -> list[Path]:
    """The files of a base's weights, one or more.

    Raises:
        FileNotFoundError: the folder holds no safetensors.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder}: contains no weights (*.safetensors)")
    return files
