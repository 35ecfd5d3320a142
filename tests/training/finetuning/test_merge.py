"""An adapter and its base become the bundle that the service loads."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from service.conversation.labels import LabelSpace
from service.decoding.bundle import BundleError, load_bundle, read_bundle, write_bundle
from service.decoding.fingerprint import difference, is_float32, is_same_model, question_of
from service.decoding.tokenizer import Tokenizer, load_tokenizer
from service.files import OutputError
from service.outputs import CONTENTS, rewritten
from tests.training.conftest import WriteBase
from training.cli import app
from training.finetuning.bases import base_revision
from training.finetuning.merge import merge


@pytest.fixture
def other_base(write_base: WriteBase, tmp_path: Path) -> Path:
    """The same shapes with other weights."""
    write_base(tmp_path / "other-base", 2)
    return tmp_path / "other-base"


def test_bundle_computes_what_base_and_adapter_do(
    bundle: Path, adapter: Path, tiny_base: Path
) -> None:
    """Low-rank changes, biases and layer norms, all of them, rounded to what is served."""
    ids = torch.randint(3, 30_000, (4, 60), generator=torch.Generator().manual_seed(1))
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
    merged = AutoModelForCausalLM.from_pretrained(bundle, dtype=torch.float32).eval()
    with torch.no_grad():
        plain = base(input_ids=ids).logits
        adapted = peft.PeftModel.from_pretrained(base, str(adapter)).eval()(input_ids=ids).logits
        logits = merged(input_ids=ids).logits

    assert (logits - adapted).abs().mean() < 0.01
    assert (logits - plain).abs().mean() > 0.1


def test_bundle_has_the_numbers_that_are_served(bundle: Path) -> None:
    """vLLM computes in bfloat16; what else reads the bundle computes with the same weights."""
    weights = load_file(bundle / "model.safetensors")

    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}


def test_bundle_is_one_the_service_accepts(
    bundle: Path, adapter: Path, tokenizer: Tokenizer, spaces: Mapping[str, LabelSpace]
) -> None:
    """With the adapter's description and the base's tokenizer, BOS and EOS included."""
    merged = load_bundle(bundle, spaces)
    assert merged.model_copy(update={"fingerprint": None}) == read_bundle(adapter)
    loaded = load_tokenizer(bundle)
    assert (loaded.begin, loaded.end) == (tokenizer.begin, tokenizer.end)
    assert loaded.encode("Joyful ###") == tokenizer.encode("Joyful ###")


def test_bundle_knows_its_own_weights(bundle: Path, other_base: Path) -> None:
    """How they read one prompt, and that their logits are to be precise."""
    description, tokenizer = read_bundle(bundle), load_tokenizer(bundle)
    question = question_of(description, tokenizer)

    def apart(folder: Path) -> float:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([question.prompt])).logits[0, -1]
        values = torch.log_softmax(logits, -1)[list(question.candidates)].tolist()
        assert description.fingerprint is not None
        return difference(description.fingerprint, values)

    assert is_float32(apart(bundle))
    assert not is_same_model(apart(other_base))
    assert json.loads((bundle / "config.json").read_text())["head_dtype"] == "float32"


def test_another_base_is_refused(adapter: Path, tiny_base: Path, other_base: Path) -> None:
    """The result would answer, and be noise; the error names both."""
    with pytest.raises(BundleError) as refused:
        merge(adapter, other_base, other_base.with_name("out"))

    assert str(refused.value) == (
        f"{adapter}: was trained on tiny-base at {base_revision(tiny_base)}, "
        f"but {other_base} is {base_revision(other_base)}"
    )
    assert not other_base.with_name("out").exists()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("bundle.json", r"bundle\.json: No such file"),
        ("adapter_model.safetensors", r"contains neither adapter_model\.safetensors"),
    ],
)
def test_folder_that_is_no_adapter_is_refused(
    missing: str, message: str, adapter: Path, tiny_base: Path, tmp_path: Path
) -> None:
    shutil.copytree(adapter, tmp_path / "adapter", ignore=shutil.ignore_patterns("checkpoints"))
    (tmp_path / "adapter" / missing).unlink()

    with pytest.raises(BundleError, match=message):
        merge(tmp_path / "adapter", tiny_base, tmp_path / "out")

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("listed", [True, False])
def test_merging_again_replaces_the_bundle(
    listed: bool, bundle: Path, adapter: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """Whole: nothing of what stood there is left, and nothing unfinished beside it.

    Scores may have been written into it. A bundle of an earlier version has no list of contents.
    """
    out = tmp_path / "bundle"
    shutil.copytree(bundle, out)
    write_bundle(read_bundle(out).model_copy(update={"version": "scored"}), out)
    rewritten(out, "bundle.json")
    if not listed:
        (out / CONTENTS).unlink()
        (out / "model.safetensors").rename(out / "model-00001-of-00001.safetensors")

    merge(adapter, tiny_base, out)

    assert {p.name for p in out.iterdir()} == {p.name for p in bundle.iterdir()}
    assert read_bundle(out) == read_bundle(bundle)
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("listed", [True, False])
def test_what_a_user_put_into_a_bundle_stays(
    listed: bool, bundle: Path, adapter: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """With the bundle; the error names it."""
    out = tmp_path / "bundle"
    shutil.copytree(bundle, out)
    (out / "notes.txt").write_text("mine")
    if not listed:
        (out / CONTENTS).unlink()

    with pytest.raises(OutputError, match=r"bundle: contains notes\.txt, which"):
        merge(adapter, tiny_base, out)

    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("force", [False, True])
def test_merge_never_replaces_what_it_reads(
    force: bool, adapter: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """The adapter and the base, whatever a user says; not even under other names."""
    mine, base = tmp_path / "adapter", tmp_path / "base"
    shutil.copytree(adapter, mine)
    shutil.copytree(tiny_base, base)
    (tmp_path / "linked").symlink_to(mine)
    before = sorted(tmp_path.rglob("*"))

    for out in (mine, base, tmp_path / "linked", mine / "logs" / "..", tmp_path):
        with pytest.raises(OutputError):
            merge(mine, base, out, force=force)
    with pytest.raises(OutputError, match="is read by this command"):
        merge(tmp_path / "linked", base, mine, force=force)

    assert sorted(tmp_path.rglob("*")) == before


def test_adapter_is_no_bundle_to_be_replaced(
    adapter: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """Though it has a `bundle.json`: training takes days."""
    other = tmp_path / "other"
    shutil.copytree(adapter, other)

    with pytest.raises(OutputError, match="which `instructerc-train merge` did not write"):
        merge(adapter, tiny_base, other)

    assert (other / "adapter_model.safetensors").is_file()


def test_users_bundle_json_is_no_bundle(adapter: Path, tiny_base: Path, tmp_path: Path) -> None:
    """Other programs call files so too."""
    out = tmp_path / "mine"
    out.mkdir()
    (out / "bundle.json").write_text('{"entry": "main.js"}')

    with pytest.raises(OutputError, match=r"contains bundle\.json, which"):
        merge(adapter, tiny_base, out)


def test_refused_merge_leaves_an_earlier_bundle_alone(
    bundle: Path, adapter: Path, other_base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(bundle, out)

    with pytest.raises(BundleError):
        merge(adapter, other_base, out)

    assert {p.name for p in out.iterdir()} == {p.name for p in bundle.iterdir()}


def test_command_says_in_a_line_why_it_refuses(adapter: Path, other_base: Path) -> None:
    """Exit status 2, no traceback."""
    out = other_base.with_name("out")

    result = CliRunner().invoke(
        app, ["merge", str(adapter), "--base", str(other_base), "--out", str(out)]
    )

    assert result.exit_code == 2
    assert result.stderr.startswith(f"instructerc-train: {adapter}: was trained on tiny-base at")
    assert result.stderr.count("\n") == 1


def test_broken_weights_are_told_in_a_line(adapter: Path, tiny_base: Path, tmp_path: Path) -> None:
    """As of a copy that broke off; the same for a disk that is full."""
    shutil.copytree(adapter, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"broken")
    words = ["merge", str(tmp_path / "adapter"), "--base", str(tiny_base)]

    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])

    assert result.exit_code == 2
    assert "adapter_model.safetensors: is not a safetensors file" in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_misspelt_recipe_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    """The base need not even be there."""
    (tmp_path / "mine.yaml").write_text("nmae: mine\n")

    result = CliRunner().invoke(
        app,
        ["train", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "out"),
         "--data", str(tmp_path), "--base", str(tmp_path / "none")],
    )  # fmt: skip

    assert result.exit_code == 2
    assert "mine.yaml: " in result.stderr
    assert "nmae: Extra inputs are not permitted" in result.stderr
