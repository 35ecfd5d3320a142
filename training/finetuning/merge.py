"""Merges an adapter into its base: the model bundle that the service loads."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

from service.decoding.bundle import (
    FILE,
    Bundle,
    BundleError,
    Fingerprint,
    read_bundle,
    write_bundle,
)
from service.decoding.fingerprint import fingerprint_of, question_of
from service.decoding.model_files import AGAIN
from service.decoding.model_folder import look_at_weights
from service.decoding.tokenizer import load_tokenizer
from service.memory import memory_bytes
from service.outputs import Made, check_folder, made_folder
from training.finetuning.bases import base_revision
from training.finetuning.model_inspection import (
    check_fits,
    loading,
    look_at_adapter,
    look_at_base,
    without_weights,
)
from training.finetuning.streamed_merge import can_stream, write_merged

log = logging.getLogger(__name__)

# vLLM reads it: near the labels' values, logits of half precision are too coarse.
_HEAD_DTYPE = "float32"
# Of the machine's memory, the most that a model may take in float32 for its fingerprint.
_MEMORY_SHARE = 0.5

# What transformers writes of a model and its tokenizer.
_MODEL_FILES = re.compile(
    r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
    r"|(generation_)?config\.json|tokenizer(_config)?\.json|tokenizer\.model|chat_template\.jinja"
    r"|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt"
)


def _unlisted(folder: Path) -> Iterable[str]:
    """The files of a bundle that has no list of its contents."""
    try:
        read_bundle(folder)
    except BundleError:
        return ()
    names = (path.name for path in folder.iterdir())
    return (FILE, *(name for name in names if _MODEL_FILES.fullmatch(name)))


_BUNDLE = Made("instructerc-train merge", _unlisted)


def merge(adapter: Path, base: Path, out: Path, *, force: bool = False) -> None:
    """Write the bundle of an adapter, or of weights that were trained whole.

    It stands at `out` only when it is complete.

    Weights are rounded to bfloat16, which the service computes in: everything that loads the
    bundle has the numbers that are served.

    Args:
        adapter: a folder that `instructerc-train train` wrote.
        base: the base model that the adapter was trained on.
        out: the bundle's folder, in place of an earlier bundle.
        force: whether it may take the place of what else is there.

    Raises:
        BundleError: the folder has no `bundle.json` or no safetensors weights, or the base is not
            the one it was trained on.
        ModelFolderError: a file of the adapter or the base is missing or broken.
        OutputError: `out` cannot be written, is or holds what is read, or holds something else
            than a bundle.
    """
    check_folder(out, _BUNDLE, (adapter, base), force=force)
    changes = look_at_adapter(adapter)
    bundle = read_bundle(adapter)
    look_at_base(base)
    revision = base_revision(base)
    if revision != bundle.base.revision:
        raise BundleError(
            f"{adapter}: was trained on {bundle.base.name} at {bundle.base.revision}, but {base} "
            f"is {revision}"
        )
    folder = adapter if changes is None else base
    model = without_weights(folder)
    if changes is not None:
        check_fits(adapter, changes, base, model)
    load_tokenizer(base)
    from transformers import AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    changing = None if changes is None else adapter
    with made_folder(out, _BUNDLE, force=force) as made:
        if can_stream(folder, adapter, changes, model):
            _stream(folder, changing, made)
        else:
            _load_and_merge(folder, changing, made)
        AutoTokenizer.from_pretrained(base, local_files_only=True).save_pretrained(made)
        described = bundle.model_copy(update={"fingerprint": _fingerprint(made, bundle)})
        write_bundle(described, made)


def _stream(folder: Path, adapter: Path | None, out: Path) -> None:
    """Write configuration and weights of a model with an adapter, tensor by tensor."""
    import torch
    from transformers import AutoModelForCausalLM

    with loading(folder, AGAIN):
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=torch.bfloat16, device_map="meta"
        )
    model.config.head_dtype = _HEAD_DTYPE
    model.save_pretrained(out, state_dict={})  # all but the weights
    with loading(adapter or folder, AGAIN):
        write_merged(folder, adapter, model, out)


def _load_and_merge(folder: Path, adapter: Path | None, out: Path) -> None:
    """The same for a model that has to be loaded whole, in float32."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    log.info("%s: is loaded whole to be merged, four bytes a parameter", folder)
    with loading(folder, AGAIN):
        merged = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32
        )
    if adapter is not None:
        with loading(adapter, AGAIN):
            adapted = peft.PeftModel.from_pretrained(merged, str(adapter))
        merged = adapted.merge_and_unload(safe_merge=True)
    merged = merged.to(torch.bfloat16)
    merged.config.head_dtype = _HEAD_DTYPE
    merged.save_pretrained(out)


def _fingerprint(folder: Path, bundle: Bundle) -> Fingerprint | None:
    """How the rounded weights read the bundle's question in float32; None for a large model.

    Args:
        folder: of the merged model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    _, size = look_at_weights(folder)
    if 2 * size > _MEMORY_SHARE * memory_bytes():
        log.info("%s: too large to be read here, so servers are not checked against it", folder)
        return None
    model = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32
    ).eval()
    question = question_of(bundle, load_tokenizer(folder))
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([question.prompt])).logits[0, -1]
    log_probabilities = torch.log_softmax(logits, -1)[list(question.candidates)]
    return fingerprint_of(question, log_probabilities.tolist())
