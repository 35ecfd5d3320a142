"""How training scores what it holds out."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from sklearn.metrics import f1_score
from transformers import AutoModelForCausalLM

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from training.finetuning.label_probabilities import development_scores, probabilities
from training.mixture.tasks import PromptSettings, main_task


@pytest.mark.parametrize("name", ["dailydialog", "meld"])
def test_epoch_is_scored_by_the_measure_that_its_corpus_is_compared_by(
    name: str, tiny_base: Path, prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    """DailyDialog by micro F1 without "no emotion", MELD by weighted F1."""
    model, space = AutoModelForCausalLM.from_pretrained(tiny_base).eval(), spaces[name]
    talk = Dialogue(
        "d", tuple(Utterance("Ann", f"This is line {n}.", space.names[0]) for n in range(8))
    )
    examples = main_task(talk, space, prompts, {})
    predicted = [
        int(row.argmax()) for row in probabilities(model, model, examples, prompts, "float32")
    ]
    # Every third is right; what it takes for the first label is another one.
    gold = [label if n % 3 == 0 else (label + 2) % 7 for n, label in enumerate(predicted)]
    held = [replace(one, label=space.names[n]) for one, n in zip(examples, gold, strict=True)]

    scores = development_scores(model, model, {"held": held, "nothing": []}, prompts, "float32")

    micro = f1_score(gold, predicted, labels=range(1, 7), average="micro", zero_division=0)
    weighted = f1_score(gold, predicted, average="weighted", zero_division=0)
    assert micro != pytest.approx(weighted, abs=0.01)
    expected = micro if name == "dailydialog" else weighted
    assert scores == {"held": pytest.approx(100 * expected, abs=0.01)}
