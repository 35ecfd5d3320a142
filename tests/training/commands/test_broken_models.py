"""A base, an adapter or a bundle that cannot be loaded: one line says which file, and what to do.

Nothing of it is loaded before that: neither transformers nor vLLM is asked for weights.
"""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.broken_folders import (
    ADAPTER,
    AGAIN,
    BASE,
    BASES,
    BUNDLE,
    MODELS,
    POINTER,
    Broken,
    changed,
    half,
    linked,
    put,
    weights,
    without,
)
from training.cli import app
from training.finetuning.bases import base_revision
from training.mixture.sources import Sources


@pytest.fixture(autouse=True)
def no_weights_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(*_: Any, **__: Any) -> Any:
        pytest.fail("weights are loaded")

    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", loads)
    monkeypatch.setattr("safetensors.torch.load_file", loads)
    monkeypatch.setattr("service.recognition_parts.start_engine", loads)
    monkeypatch.setattr("service.recognition_parts.load_encoder", loads)
    # Its weights are none of these, and take a second.
    encoder = SimpleNamespace(identity="none", encode_now=None)
    monkeypatch.setattr("service.demonstrations.encoder.load_encoder", lambda: encoder)


def refused(*words: object) -> str:
    """The line in which a command says why it does nothing."""
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 2, (result.output, result.exception)
    last = str(result.stderr.splitlines()[-1])
    assert last.startswith("instructerc-train: "), result.stderr
    assert "Traceback" not in result.stderr
    return last


def says(line: str, folder: Path, broken: Broken) -> None:
    assert f"{folder}" in line
    assert broken.problem in line
    assert broken.remedy in line.partition(broken.problem)[2]


def every(kinds: dict[str, Broken]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("broken", kinds.values(), ids=kinds.keys())


@every(MODELS | BASES)
def test_base_that_cannot_be_trained(
    broken: Broken, recipe_file: Path, sources: Sources, tmp_path: Path
) -> None:
    base, out = linked(BASE, tmp_path / "base"), tmp_path / "out"
    broken.spoil(base)

    line = refused(
        *("train", recipe_file, "--data", sources.data, "--base", base, "--out", out)
    )  # fmt: skip

    says(line, base, broken)
    assert not out.exists()


@every(MODELS | BASES)
def test_base_that_cannot_be_merged_into(broken: Broken, tmp_path: Path) -> None:
    base, out = linked(BASE, tmp_path / "base"), tmp_path / "out"
    broken.spoil(base)

    says(refused("merge", ADAPTER, "--base", base, "--out", out), base, broken)

    assert not out.exists()


@pytest.mark.parametrize("kind", ["pointer-weights", "half-config", "no-tokenizer", "quantised"])
def test_base_of_an_experiment_that_cannot_be_trained(
    kind: str, recipe_file: Path, sources: Sources, tmp_path: Path
) -> None:
    """Before a run is begun."""
    base, out = linked(BASE, tmp_path / "base"), tmp_path / "out"
    broken = (MODELS | BASES)[kind]
    broken.spoil(base)

    line = refused(
        *("run", recipe_file, "--data", sources.data, "--base", base, "--out", out)
    )  # fmt: skip

    says(line, base, broken)
    assert [*out.iterdir()] == []


@every(MODELS)
def test_bundle_that_cannot_be_evaluated(broken: Broken, sources: Sources, tmp_path: Path) -> None:
    bundle = linked(BUNDLE, tmp_path / "bundle")
    broken.spoil(bundle)

    line = refused("evaluate", bundle, "--corpus", f"jsonl/meld:{sources.data / 'talks.jsonl'}")

    says(line, bundle, broken)


def test_name_of_a_hub_is_no_folder(recipe_file: Path, sources: Sources, tmp_path: Path) -> None:
    """No hub is asked; the line says how to come by the model."""
    words = ("train", recipe_file, "--data", sources.data, "--out", tmp_path / "out", "--base")
    how = (
        "nothing is downloaded from a hub here: download the model "
        "(`hf download {} --local-dir BASE`)"
    )

    for name in ("meta-llama/Llama-2-7b-hf", "https://huggingface.co/meta-llama/Llama-2-7b-hf"):
        line = refused(*words, name)
        assert "there is no such folder" in line
        assert how.format("meta-llama/Llama-2-7b-hf") in line
    assert how.format("NAME") in refused(*words, "gpt2")
    assert how.format("NAME") in refused(*words, tmp_path / "models" / "gpt2")


def test_what_is_no_folder_of_a_model(recipe_file: Path, sources: Sources, tmp_path: Path) -> None:
    """A file of it, its hub's cache, the folder above, a link to nothing: it says what to name."""
    words = ("train", recipe_file, "--data", sources.data, "--out", tmp_path / "out", "--base")
    cache = tmp_path / "models--our--model"
    linked(BASE, cache / "snapshots" / "c0ffee")
    (cache / "blobs").mkdir()
    linked(BASE, tmp_path / "above" / "base")
    (tmp_path / "link").symlink_to("nowhere")

    line = refused(*words, BASE / "model.safetensors")
    assert "model.safetensors: is not a folder; name the folder that contains it" in line
    assert f"{cache}: is a hub cache of a model; name {cache / 'snapshots' / 'c0ffee'}" in (
        refused(*words, cache)
    )
    line = refused(*words, tmp_path / "above")
    assert f"above: contains no model; name {tmp_path / 'above' / 'base'}" in line
    assert "link: is a link to nowhere, which does not exist; " in refused(
        *words, tmp_path / "link"
    )
    line = refused(*words, ADAPTER)
    assert (
        f"{ADAPTER}: is an adapter, because it contains adapter_config.json; name the folder of"
        in line
    )
    assert "(minilm-causal)" in line


def test_file_that_may_not_be_read_is_named(
    recipe_file: Path, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy is another than for a broken one."""
    base = linked(BASE, tmp_path / "base")
    opened: Callable[..., Any] = Path.open

    def refuses(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == base / "config.json":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuses)

    line = refused(
        *("train", recipe_file, "--data", sources.data, "--base", base, "--out", tmp_path / "out")
    )

    assert f"{base}/config.json: Permission denied; let whoever runs this read it" in line


ADAPTERS = {
    "pointer": Broken(
        put("adapter_model.safetensors", POINTER),
        "adapter_model.safetensors: is a git-lfs pointer",
        "git lfs pull",
    ),
    "half": Broken(half("adapter_model.safetensors"), "adapter_model.safetensors: has ", AGAIN),
    "no-weights": Broken(
        without("adapter_model.safetensors"),
        "contains neither adapter_model.safetensors",
        "fetch or copy",
    ),
    "bin": Broken(
        lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
        "contains neither adapter_model.safetensors",
        "adapter_model.bin is not read",
    ),
    "no-config": Broken(
        without("adapter_config.json"), "adapter_config.json: No such file", AGAIN
    ),
    "half-config": Broken(
        half("adapter_config.json"), "adapter_config.json: is not JSON: line ", AGAIN
    ),
    "of-peft": Broken(
        without("bundle.json", "training.json"),
        "bundle.json: No such file or directory: the adapter does not say what it was trained on",
        "write a bundle.json like that of data/adapters/erc-mini",
    ),
    "pointer-description": Broken(
        put("bundle.json", POINTER), "bundle.json: is a git-lfs pointer", "git lfs pull"
    ),
    "unfinished": Broken(
        changed("training.json", complete=False), "its training is not finished", "it resumes"
    ),
    "prompts": Broken(
        changed("adapter_config.json", peft_type="PREFIX_TUNING"),
        "adapter_config.json: peft_type PREFIX_TUNING adds to prompts",
        "LoRA",
    ),
    "classifier": Broken(
        changed("adapter_config.json", task_type="SEQ_CLS"),
        "adapter_config.json: task_type SEQ_CLS is not that of a causal language model",
        "CAUSAL_LM",
    ),
    "other-modules": Broken(
        put(
            "adapter_model.safetensors",
            weights({"base_model.model.model.layers.0.o_proj.lora_A.weight": (2, 384)}),
        ),
        "changes model.layers.0.o_proj, which ",
        "name the base that it was trained on",
    ),
    "more-layers": Broken(
        put(
            "adapter_model.safetensors",
            weights({
                f"base_model.model.model.decoder.layers.{n}.fc1.lora_A.weight": (2, 384)
                for n in range(8)
            }),
        ),
        "changes model.decoder.layers.6.fc1, which ",
        "name the base that it was trained on",
    ),
    "another-width": Broken(
        put(
            "adapter_model.safetensors",
            weights({"base_model.model.model.decoder.layers.0.fc1.lora_A.weight": (2, 768)}),
        ),
        "layers.0.fc1.lora_A.weight has size 768, but the module in ",
        "name the base that it was trained on",
    ),
}  # fmt: skip


@every(ADAPTERS)
def test_adapter_that_cannot_be_merged(broken: Broken, tmp_path: Path) -> None:
    adapter, out = linked(ADAPTER, tmp_path / "adapter"), tmp_path / "out"
    broken.spoil(adapter)

    says(refused("merge", adapter, "--base", BASE, "--out", out), adapter, broken)

    assert not out.exists()


def test_base_is_no_adapter(tmp_path: Path) -> None:
    line = refused("merge", BASE, "--base", BASE, "--out", tmp_path / "out")

    assert f"{BASE}: is a model, not an adapter; name the folder that `instructerc" in line
    line = refused("merge", tmp_path / "nowhere", "--base", BASE, "--out", tmp_path / "out")
    assert "nowhere: there is no such folder; name the folder that `instructerc" in line


def test_adapter_and_base_are_no_bundles(sources: Sources, tmp_path: Path) -> None:
    """It says how to make one of them."""
    corpus = ("--corpus", f"jsonl/meld:{sources.data / 'talks.jsonl'}")

    assert (
        f"{ADAPTER}: is an adapter that is not yet merged into its base; merge it "
        f"(`instructerc-train merge {ADAPTER} --base BASE --out BUNDLE`)"
    ) in refused("evaluate", ADAPTER, *corpus)
    assert f"{BASE}: is a model without bundle.json" in refused("evaluate", BASE, *corpus)


def test_base_that_says_wrongly_how_it_was_made(tmp_path: Path) -> None:
    """The file is named where it is broken; one of somebody else's says nothing of the base."""
    base = linked(BASE, tmp_path / "base")
    put("base.json", '{"name": ')(base)

    line = refused("merge", ADAPTER, "--base", base, "--out", tmp_path / "out")
    assert "base.json: is not JSON: line 1" in line

    put("base.json", json.dumps({"name": "mine"}))(base)
    assert base_revision(base).startswith("sha256:")
    shutil.rmtree(base)
