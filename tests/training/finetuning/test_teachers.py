"""A trained model as the teacher of a stage."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from service.decoding.bundle import read_bundle
from tests.broken_folders import changed, linked
from tests.training.conftest import RECIPE
from training.datasets.fingerprint import fingerprint
from training.datasets.relabelling import relabelled
from training.finetuning import finetune
from training.finetuning.teachers import trained_model
from training.mixture.sources import Sources
from training.mixture.tasks import first_tokens, main_task
from training.recipe import Recipe, RecipeError

FIRST = RECIPE["stages"][0]


def taught(**labels: Any) -> Recipe:
    """One stage, which learns from the bundle "tiny" where nothing else is said."""
    stage = FIRST | {"name": "taught", "pseudo_labels": labels or {"bundle": "tiny"}}
    return Recipe.model_validate(RECIPE | {"name": "student", "stages": [stage]})


@pytest.fixture
def changed_bundle(bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """The bundle with another description."""

    def change(**changes: Any) -> Path:
        folder = linked(bundle, tmp_path / "changed")
        changed("bundle.json", **changes)(folder)
        return folder

    return change


def test_teacher_answers_as_its_merged_weights_do(bundle: Path, sources: Sources) -> None:
    """With its own prompts: each utterance's probabilities are those of its prompt alone."""
    teacher = trained_model(bundle, "float32")
    stage = taught().stages[0]
    (corpus, _) = sources.corpora(stage.corpora)
    space = sources.label_spaces["emorynlp"]
    examples = [
        example
        for dialogue in corpus.dialogues
        for example in main_task(
            relabelled(dialogue, lambda *_: "Neutral"), space, teacher.settings, {}
        )
    ]

    rows = teacher.ask(examples)

    model = AutoModelForCausalLM.from_pretrained(bundle, dtype=torch.float32)
    assert len(rows) == sum(len(dialogue.utterances) for dialogue in corpus.dialogues)
    for example, row in zip(examples, rows, strict=True):
        prompt = [token for segment in example.example.segments for token in segment]
        with torch.no_grad():
            logits = model(torch.tensor([prompt])).logits[0, -1]
        alone = logits[first_tokens(teacher.settings, space)].double().softmax(-1).numpy()
        assert row == pytest.approx(alone, abs=1e-5)


def test_stage_learns_what_the_teacher_says(
    bundle: Path,
    sources: Sources,
    tiny_base: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each corpus in the other's labels too, so that an epoch has twice the examples."""
    recipe = taught().model_copy(update={"label_spaces": ("meld", "emorynlp")})
    own = recipe.stages[0].model_copy(update={"pseudo_labels": None, "unified": 0.0})
    stage = recipe.stages[0].model_copy(update={"unified": 0.0})
    counts: list[int] = []
    for each, teacher in ((own, None), (stage, bundle)):
        caplog.clear()
        changed = recipe.model_copy(update={"stages": (each,)})
        with caplog.at_level("INFO"):
            finetune.train(
                changed, tiny_base, replace(sources, teacher=teacher), tmp_path / str(len(counts))
            )
        counts.append(int(re.findall(r"taught: (\d+) examples", caplog.text)[0]))

    assert counts[1] == 2 * counts[0]
    assert re.findall(r"(\w+)\.jsonl has pseudo-labels of (\w+)", caplog.text) == [
        ("talks", "emorynlp"),
        ("others", "meld"),
    ]


def test_run_goes_on_with_the_teacher_that_it_was_begun_with(
    bundle: Path, sources: Sources, tiny_base: Path, tmp_path: Path
) -> None:
    recipe, given = taught(), replace(sources, teacher=bundle)
    finetune.train(recipe, tiny_base, given, tmp_path / "run")
    record = tmp_path / "run" / "training.json"
    content = json.loads(record.read_text())
    content["complete"] = False
    content["material"]["teacher"] = "sha256:" + "0" * 64
    record.write_text(json.dumps(content))

    with pytest.raises(RecipeError, match="teacher"):
        finetune.train(recipe, tiny_base, given, tmp_path / "run")


def refusal(recipe: Recipe, sources: Sources, base: Path, out: Path) -> str:
    with pytest.raises(RecipeError) as refused:
        finetune.train(recipe, base, sources, out)
    assert not out.exists()
    return str(refused.value)


def test_teacher_has_to_be_given_and_asked_for(
    bundle: Path,
    changed_bundle: Callable[..., Path],
    sources: Sources,
    tiny_base: Path,
    tmp_path: Path,
) -> None:
    """And to be the one that the recipe names."""
    out, given = tmp_path / "run", replace(sources, teacher=bundle)
    own = Recipe.model_validate(RECIPE)

    assert "bundle: tiny: name its folder with --teacher" in refusal(
        taught(), sources, tiny_base, out
    )
    assert f"no stage has pseudo_labels of a bundle: {bundle}" in refusal(
        own, given, tiny_base, out
    )
    other = replace(sources, teacher=changed_bundle(name="other"))
    assert refusal(taught(), other, tiny_base, out).endswith("/changed contains other")


def test_teacher_has_not_read_what_is_held_out(
    changed_bundle: Callable[..., Path], sources: Sources, tiny_base: Path, tmp_path: Path
) -> None:
    held_out = sources.data / "held_out.jsonl"
    data = {"renamed.jsonl": fingerprint(held_out)}
    given = replace(sources, teacher=changed_bundle(data=data))

    message = refusal(taught(), given, tiny_base, tmp_path / "run")

    assert f"bundle: tiny: was trained on {held_out}, which is held out" in message


def test_teacher_knows_the_label_spaces(
    changed_bundle: Callable[..., Path],
    bundle: Path,
    sources: Sources,
    tiny_base: Path,
    tmp_path: Path,
) -> None:
    known = {"meld": read_bundle(bundle).label_spaces["meld"].model_dump(mode="json")}
    given = replace(sources, teacher=changed_bundle(label_spaces=known))

    message = refusal(taught(), given, tiny_base, tmp_path / "run")

    assert "bundle: tiny: was not trained on emorynlp" in message


@pytest.mark.parametrize("labels", [{"teacher": "first", "bundle": "tiny"}, {"share": 0.5}])
def test_stage_has_one_teacher(labels: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs either teacher, an earlier stage, or bundle"):
        taught(**labels)


def test_bundles_that_teach_are_one() -> None:
    """For one folder is given."""
    stages = [
        FIRST | {"name": name, "pseudo_labels": {"bundle": name}} for name in ("one", "another")
    ]
    with pytest.raises(ValueError, match="have several bundles as teachers: another, one"):
        Recipe.model_validate(RECIPE | {"stages": stages})
