"""Targets from a classifier, and from the runs of an earlier stage."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from training.arrays import Floats
from training.finetuning import finetune, teachers
from training.finetuning.label_probabilities import probabilities
from training.finetuning.packing import Row
from training.finetuning.trainer import Run
from training.mixture.pseudo_labels import Teacher, pseudo_labelled
from training.mixture.sources import Sources
from training.mixture.tasks import LabelledExample
from training.recipe import PseudoLabels, Stage
from training.recipe_files import load_recipe


def test_distillation_teaches_a_share_of_what_the_teacher_says(
    about_to_train: Callable[..., tuple[list[Row], Run]],
) -> None:
    """Beside each label's own share, which is the rest: a distribution for every answer."""
    plain, _ = about_to_train()
    distilled, _ = about_to_train(distillation=0.4)

    assert not any(len(row.soft) for row in plain)
    for row in distilled:
        for first in row.first:
            of_answer = row.soft[:, 0] == first
            shares, tokens = row.shares[of_answer], row.soft[of_answer, 1]
            own = shares[tokens == row.targets[first]]
            assert len(shares) > 1
            assert shares.sum() == pytest.approx(1, abs=1e-6)
            assert 0.6 - 1e-6 <= own.item() < 1


def test_stage_is_taught_by_the_runs_of_an_earlier_one(
    tiny_base: Path,
    sources: Sources,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Together: what is likely is the mean of what they say, each with the weights that it kept."""
    recipe = load_recipe(recipe_file)
    first = recipe.stages[0].model_copy(update={"runs": 2})
    taught = recipe.stages[0].model_copy(
        update={"name": "taught", "pseudo_labels": PseudoLabels(teacher="first")}
    )
    changed = recipe.model_copy(update={"stages": (first, taught)})
    calls: list[tuple[Sequence[LabelledExample], list[list[Floats]]]] = []
    answered: list[list[Floats]] = []

    def noted(*arguments: Any) -> list[Floats]:
        answered.append(probabilities(*arguments))
        return answered[-1]

    def asking(corpora: Any, stage: Stage, teacher: Teacher) -> Any:
        def once(examples: Sequence[LabelledExample]) -> Sequence[Floats]:
            answered.clear()
            means = teacher.ask(examples)
            for mean, rows in zip(means, zip(*answered, strict=True), strict=True):
                assert mean == pytest.approx(sum(rows) / 2)
                assert mean.sum() == pytest.approx(1)
            calls.append((examples, list(answered)))
            return means

        return pseudo_labelled(corpora, stage, Teacher(teacher.settings, once))

    monkeypatch.setattr(teachers, "probabilities", noted)
    monkeypatch.setattr(finetune, "pseudo_labelled", asking)
    finetune.train(changed, tiny_base, sources, tmp_path / "run")

    assert {e.label_space.name for examples, _ in calls for e in examples} == {"meld", "emorynlp"}
    for _, (one, two) in calls:
        assert not all(a == pytest.approx(b) for a, b in zip(one, two, strict=True))
