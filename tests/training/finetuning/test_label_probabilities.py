"""How training scores what it holds out."""

import json
import os
import subprocess
import sys
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


_TOGETHER = """
import json, sys
from pathlib import Path
from transformers import AutoModelForCausalLM
from service.conversation.dialogue import Dialogue, HistoryWindow, Utterance
from service.conversation.labels import load_label_spaces
from service.conversation.prompts.default_v2 import V2
from service.decoding.tokenizer import load_tokenizer
from training.finetuning import label_probabilities
from training.finetuning.processes import is_first_process
from training.finetuning.row_attention import RowAttention
from training.mixture.tasks import PromptSettings, main_task

label_probabilities._ROWS = 2
base, spaces, out = map(Path, sys.argv[1:])
model, meld = AutoModelForCausalLM.from_pretrained(base).eval(), load_label_spaces(spaces)["meld"]
lines = [Utterance("Ann", f"This is line {n}, of {'many ' * n}words.", "joy") for n in range(30)]
settings = PromptSettings(V2(), HistoryWindow(2, 3), load_tokenizer(base), 150)
calls = []
model.register_forward_pre_hook(lambda *_: calls.append(1))
rows = label_probabilities.probabilities(
    model, model, main_task(Dialogue("d", tuple(lines)), meld, settings, {}), settings, "float32",
    attention=RowAttention.ALONE,
)
name = "first" if is_first_process() else "second"
(out / name).write_text(json.dumps([len(calls), [row.tolist() for row in rows]]))
"""


def test_processes_share_what_is_asked(tiny_base: Path, tmp_path: Path) -> None:
    """Each computes its part, as often as the other, and gets the whole; as one does alone."""
    spaces = Path(__file__).resolve().parents[3] / "data" / "label_spaces"
    script = tmp_path / "together.py"
    script.write_text(_TOGETHER)

    def ask(processes: int) -> list[tuple[int, list[list[float]]]]:
        out = tmp_path / f"{processes}"
        out.mkdir()
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        command = [sys.executable, *launch, str(processes), str(script), str(tiny_base)]
        # Not what other tests' libraries have left in this process's environment.
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        done = subprocess.run(
            [*command, str(spaces), str(out)],
            env=kept | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return [tuple(json.loads(path.read_text())) for path in sorted(out.iterdir())]

    ((alone_calls, alone),) = ask(1)
    (first_calls, first), (second_calls, second) = ask(2)

    assert alone_calls == 15
    assert first_calls == second_calls == 8
    assert first == second == alone
