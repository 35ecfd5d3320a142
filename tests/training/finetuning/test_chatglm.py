"""ChatGLM2, ChatGLM3 and GLM-4-9B as they are published become bases, and none of their code runs.

No published weights are needed: a small model with the same names and packing is compared with what
the published code computes, written anew in `tests.training.chatglm`.
"""

import base64
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from sentencepiece import SentencePieceProcessor
from tiktoken import Encoding
from transformers import AutoModelForCausalLM, AutoTokenizer, GlmForCausalLM
from typer.testing import CliRunner

from service.conversation.labels import LabelSpace
from service.decoding.bundle import load_bundle
from service.decoding.model_files import ModelFolderError
from service.decoding.model_folder import INDEX
from service.decoding.tokenizer import load_tokenizer
from service.files import OutputError
from tests.broken_folders import changed
from tests.training.chatglm import (
    CHATGLM2_6B,
    CHATGLM_6B,
    INTERPOLATED,
    PIECES,
    STRETCHED,
    TINY,
    computed,
    pieces,
    random_weights,
    ranks,
    write_chatglm,
)
from tests.training.conftest import RECIPE
from training.cli import app
from training.finetuning import chatglm, chatglm_weights, finetune
from training.finetuning.bases import base_revision, convert_base
from training.finetuning.merge import merge
from training.finetuning.model_inspection import look_at_base, without_weights
from training.mixture.sources import Sources
from training.recipe import Recipe

SAID = (
    *("We won! I am so happy!", "  two  spaces ", "a\nb\n", "philosophy of a sop, eop", " It's"),
    *("今天天气很好。", "你好 and hello", "🙂 naïve ﬁ", "</s> <unk> [gMASK] [MASK]", ""),
)
# As ChatGLM2-6B is printed, with the biases and norms that print no shape.
PUBLISHED = {
    "transformer.embedding.word_embeddings.weight": (65024, 4096),
    "transformer.encoder.layers.27.input_layernorm.weight": (4096,),
    "transformer.encoder.layers.27.self_attention.query_key_value.weight": (4608, 4096),
    "transformer.encoder.layers.27.self_attention.query_key_value.bias": (4608,),
    "transformer.encoder.layers.27.self_attention.dense.weight": (4096, 4096),
    "transformer.encoder.layers.27.post_attention_layernorm.weight": (4096,),
    "transformer.encoder.layers.27.mlp.dense_h_to_4h.weight": (27392, 4096),
    "transformer.encoder.layers.27.mlp.dense_4h_to_h.weight": (4096, 13696),
    "transformer.encoder.final_layernorm.weight": (4096,),
    "transformer.output_layer.weight": (65024, 4096),
}
PARAMETERS = 6_243_584_000


def logits(base: Path, ids: torch.Tensor) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    with torch.no_grad():
        output: torch.Tensor = model(input_ids=ids[None]).logits[0]
    return output


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chatglm(tmp_path_factory.mktemp("published") / "chatglm2")


@pytest.fixture(scope="module")
def converted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bases") / "chatglm2"
    convert_base(source, out)
    return out


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(3, PIECES, (60,), generator=torch.Generator().manual_seed(3))


def test_published_tensors_of_chatglm2_6b_are_those_expected(tmp_path: Path) -> None:
    """By name and shape, 28 layers of them: 6.24 billion numbers."""
    (tmp_path / "config.json").write_text(json.dumps(CHATGLM2_6B))

    tensors = chatglm.check_source(tmp_path).tensors()

    assert PUBLISHED.items() <= tensors.items()
    assert len(tensors) == 28 * 7 + 3
    assert sum(torch.Size(shape).numel() for shape in tensors.values()) == PARAMETERS


def test_each_published_tensor_has_its_place_in_glm(tmp_path: Path) -> None:
    """And GLM has no others, of the same shapes."""
    (tmp_path / "config.json").write_text(json.dumps(CHATGLM2_6B))
    shape = chatglm.check_source(tmp_path)
    made = {}
    for name, size in shape.tensors().items():
        for ours, rows in shape.parts(name).items():
            made[ours] = (len(range(size[0])[rows]), *size[1:])

    with torch.device("meta"):
        model = GlmForCausalLM(chatglm._glm_config(tmp_path, CHATGLM2_6B, shape))

    assert made == {name: tuple(p.shape) for name, p in model.named_parameters()}


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "pickled"])
@pytest.mark.parametrize("shards", [1, 3])
def test_base_computes_what_chatglm2_does(
    pickled: bool, shards: int, ids: torch.Tensor, tmp_path: Path
) -> None:
    """In float32, to the last digits, whatever files the weights lie in."""
    weights = random_weights(TINY)
    write_chatglm(tmp_path / "in", weights=weights, shards=shards, pickled=pickled)

    convert_base(tmp_path / "in", tmp_path / "out")

    expected = computed(TINY, weights, ids)
    assert expected.std() > 1
    assert torch.allclose(logits(tmp_path / "out", ids), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("code", "base", "step"),
    [(STRETCHED, 80_000.0, 1.0), (INTERPOLATED, 10_000.0, 1 / 8)],
    ids=["base-multiplied", "positions-divided"],
)
def test_longer_contexts_turn_heads_as_their_code_says(
    code: str, base: float, step: float, ids: torch.Tensor, tmp_path: Path
) -> None:
    """`rope_ratio` means another thing in ChatGLM2-6B-32K than in the models after it."""
    config = {**TINY, "rope_ratio": 8}
    weights = random_weights(config)
    write_chatglm(tmp_path / "in", config, weights=weights, code=code)

    convert_base(tmp_path / "in", tmp_path / "out")

    expected = computed(config, weights, ids, base, step)
    assert (expected - computed(config, weights, ids)).abs().max() > 0.1
    assert torch.allclose(logits(tmp_path / "out", ids), expected, atol=1e-4)


def test_weights_are_written_a_file_at_a_time(
    source: Path, converted: Path, ids: torch.Tensor, tmp_path: Path, monkeypatch: Any
) -> None:
    """So the memory that it takes does not grow with the model."""
    monkeypatch.setattr(chatglm_weights, "SHARD_BYTES", 100_000)

    convert_base(source, tmp_path / "out")

    files = sorted((tmp_path / "out").glob("model-*.safetensors"))
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert len(files) > 3
    assert {*index["weight_map"].values()} == {file.name for file in files}
    for file in files:
        with safe_open(file, "pt") as held:
            assert len([*held.keys()]) == 1 or file.stat().st_size < 110_000
    assert torch.equal(logits(tmp_path / "out", ids), logits(converted, ids))


def test_base_is_sound_and_made_here(source: Path, converted: Path) -> None:
    """It passes the look that training takes, and a second conversion replaces it."""
    look_at_base(converted)
    without_weights(converted)
    revision = base_revision(converted)

    convert_base(source, converted)

    assert base_revision(converted) == revision
    assert not [*converted.glob("*.py")]


def test_every_text_begins_with_gmask_and_sop(converted: Path) -> None:
    """Their numbers follow those of the pieces, as the published tokenizers count them."""
    tokenizer = AutoTokenizer.from_pretrained(converted)

    assert tokenizer.convert_tokens_to_ids(["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"]) == [
        *range(PIECES, PIECES + 5)
    ]
    assert tokenizer("Hello")["input_ids"][:2] == [PIECES + 1, PIECES + 3]
    loaded = load_tokenizer(converted)
    assert (loaded.begin, loaded.end) == ((PIECES + 1, PIECES + 3), 2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True},
        {"add_dummy_prefix": False},
        {"byte_fallback": False, "vocab_size": 160},
    ],
    ids=["as-published", "normalised", "without-a-space-in-front", "without-bytes"],
)
def test_text_becomes_the_tokens_that_sentencepiece_makes(
    options: Mapping[str, Any], tmp_path: Path
) -> None:
    """However it is written; a special token's name in a text is a text."""
    vocabulary = pieces(**options)
    write_chatglm(tmp_path / "in", tokenizer=vocabulary)

    convert_base(tmp_path / "in", tmp_path / "out")

    ours, theirs = load_tokenizer(tmp_path / "out"), SentencePieceProcessor(model_proto=vocabulary)
    for text in SAID:
        assert [*ours.encode(text)] == theirs.encode(text), text


def test_piece_of_a_special_tokens_name_is_taken_for_it(tmp_path: Path) -> None:
    """As the published code does, which looks a piece up among these first."""
    vocabulary = pieces("asopa bsopb csopc dsopd philosophy", "esope fsopf gsopg")
    theirs = SentencePieceProcessor(model_proto=vocabulary)
    assert theirs.encode("xsopx", out_type=str)[2] == "sop"
    write_chatglm(tmp_path / "in", tokenizer=vocabulary)

    convert_base(tmp_path / "in", tmp_path / "out")

    expected = theirs.encode("xsopx")
    expected[2] = PIECES + 3
    assert [*load_tokenizer(tmp_path / "out").encode("xsopx")] == expected


def test_glm_4s_tokens_are_tiktokens(tmp_path: Path) -> None:
    """With the special tokens that its files name, in texts too, as its own tokenizer has them."""
    vocabulary = ranks(["We", " won", "happy", " am", " so", "今天"])
    first = vocabulary.count(b"\n")
    special = ("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|user|>")
    numbers = {token: first + number for number, token in enumerate(special)}
    write_chatglm(tmp_path / "in", tokenizer=vocabulary)
    changed(
        "tokenizer_config.json",
        added_tokens_decoder={str(n): {"content": token} for token, n in numbers.items()},
        eos_token="<|endoftext|>",
    )(tmp_path / "in")

    convert_base(tmp_path / "in", tmp_path / "out")

    tokenizer = load_tokenizer(tmp_path / "out")
    known = (line.split() for line in vocabulary.splitlines())
    theirs = Encoding(
        "glm-4",
        pat_str=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        mergeable_ranks={base64.b64decode(token): int(rank) for token, rank in known},
        special_tokens=numbers,
    )
    assert tokenizer.begin == (numbers["[gMASK]"], numbers["<sop>"])
    assert tokenizer.end == numbers["<|endoftext|>"]
    for text in (*SAID, "<|user|> We won"):
        assert [*tokenizer.encode(text)] == theirs.encode(text, allowed_special="all")


def test_converted_base_is_trained_and_merged(
    converted: Path, sources: Sources, spaces: Mapping[str, LabelSpace], tmp_path: Path
) -> None:
    """As any other; the bundle has its tokenizer, and each prompt its beginning."""
    recipe = Recipe.model_validate(RECIPE | {"base": "chatglm2-6b", "max_tokens": 600})
    lora = recipe.lora.model_copy(  # type: ignore[union-attr]
        update={"targets": ("q_proj", "v_proj", "gate_up_proj"), "whole": ()}
    )
    recipe = recipe.model_copy(update={"lora": lora})

    finetune.train(recipe, converted, sources, tmp_path / "run")
    merge(tmp_path / "run", converted, tmp_path / "bundle")

    assert load_bundle(tmp_path / "bundle", spaces).base.name == "chatglm2-6b"
    assert load_tokenizer(tmp_path / "bundle").begin == load_tokenizer(converted).begin


class Calls:
    """A pickle of it makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_pickle_that_calls_something_is_refused(tmp_path: Path) -> None:
    """Nothing is called."""
    write_chatglm(tmp_path / "in", pickled=True)
    torch.save({"a": Calls(tmp_path / "made")}, tmp_path / "in" / "pytorch_model.bin")

    with pytest.raises(ModelFolderError, match=r"pytorch_model\.bin: contains more than tensors"):
        convert_base(tmp_path / "in", tmp_path / "out")

    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"quantization_bit": 4}, "is quantised; use the model that it was made from"),
        ({"rmsnorm": False}, "rmsnorm is false, which transformers' GLM does not support"),
        ({"add_bias_linear": True}, "add_bias_linear is true, which transformers' GLM"),
        ({"multi_query_attention": False}, "multi_query_attention is false, which"),
        ({"original_rope": False}, "original_rope is false, which"),
        ({"pre_seq_len": 128}, "pre_seq_len is 128, which"),
        ({"post_layer_norm": False}, "post_layer_norm is false, which"),
        ({"vision_config": {"width": 8}}, 'vision_config is {"width": 8}, which'),
        ({"num_layers": "two"}, 'num_layers is "two", which is not a size'),
        ({"num_layers": 3}, "the weights have no transformer.encoder.layers.2.input_layernorm"),
        ({"num_layers": 1}, "layers.1.input_layernorm.weight, which is not part of the model"),
        ({"ffn_hidden_size": 64}, "mlp.dense_4h_to_h.weight the shape [128, 64], but the weights"),
        ({"multi_query_group_num": 3}, "4 heads of size 32 in 3 groups"),
        ({"rope_ratio": 8}, "rope_ratio is 8, but modeling_chatglm.py does not show whether"),
        ({"rope_ratio": "long"}, 'rope_ratio is "long"'),
        ({"model_type": "llama", "architectures": None}, "is llama, but only ChatGLM2, ChatGLM3"),
        (CHATGLM_6B, "is ChatGLM-6B or another of the first GLMs, which read a prompt in both"),
        ({"position_encoding_2d": True}, "is ChatGLM-6B or another of the first GLMs"),
    ],
)
def test_what_glm_does_not_compute_is_refused(
    changes: Mapping[str, Any], problem: str, source: Path, tmp_path: Path
) -> None:
    """By the key of its configuration, or the tensor; nothing is written."""
    folder = write_chatglm(tmp_path / "in", tokenizer=(source / "tokenizer.model").read_bytes())
    if changes is CHATGLM_6B:
        (folder / "config.json").write_text("{}")
    changed("config.json", **changes)(folder)

    with pytest.raises(ModelFolderError) as refused:
        convert_base(folder, tmp_path / "out")

    assert problem in str(refused.value)
    assert f"{folder}" in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("vocabulary", "problem"),
    [
        (lambda: b"no vocabulary", "is not a sentencepiece model"),
        (
            lambda: pieces(model_type="unigram", vocab_size=320),
            "is a sentencepiece model, but not a BPE like those of ChatGLM2",
        ),
        (lambda: pieces(vocab_size=446), "has 451 tokens, but the embedding matrix has 448 rows"),
        (lambda: b"YQ== 0\nYg== x\n", "is not a list of tokens and their ranks"),
        (lambda: b"", "is empty"),
    ],
    ids=["no-model", "unigram", "too-many", "broken-ranks", "empty"],
)
def test_another_tokenizer_is_refused(
    vocabulary: Callable[[], bytes], problem: str, tmp_path: Path
) -> None:
    write_chatglm(tmp_path / "in", tokenizer=vocabulary())

    with pytest.raises(ModelFolderError) as refused:
        convert_base(tmp_path / "in", tmp_path / "out")

    assert f"{tmp_path / 'in' / 'tokenizer.model'}: {problem}" in str(refused.value)


def test_folder_that_is_read_is_not_written(source: Path) -> None:
    with pytest.raises(OutputError, match="is read by this command"):
        convert_base(source, source, force=True)


def test_command_converts_a_folder_that_it_is_told(source: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["base", str(tmp_path / "out"), "--from", str(source)])

    assert result.exit_code == 0, result.output
    assert result.stdout == f"base {source} written to {tmp_path / 'out'}\n"
    look_at_base(tmp_path / "out")


def test_command_builds_or_converts(source: Path, tmp_path: Path) -> None:
    words = ["base", str(tmp_path / "out"), "--from", str(source), "--name", "minilm-causal"]

    result = CliRunner().invoke(app, words)

    assert result.exit_code == 2
    assert "use either --name, to build a base, or --from" in result.stderr
