"""Label probabilities of a model under training, for development scores and pseudo-labels.

They are of the first tokens of verbalizers alone; `instructerc-train evaluate` reports what the
service would answer.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from service.decoding.precision import ComputeType
from training.arrays import Floats
from training.evaluation.metrics import confusion, own_measure
from training.finetuning.packed_loss import logits_at
from training.finetuning.packing import collate, pack
from training.finetuning.processes import gathered, shared_out
from training.finetuning.row_attention import RowAttention
from training.mixture.tasks import LabelledExample, PromptSettings, first_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROWS, _LONG_ROWS = 8, 2  # of a batch


def development_scores(
    model: Any,
    causal: "PreTrainedModel",
    held: Mapping[str, Sequence[LabelledExample]],
    settings: PromptSettings,
    compute: ComputeType,
    attention: RowAttention = RowAttention.DENSE,
) -> dict[str, float]:
    """Scores in percent, by what is asked, of the measure that its label space is compared by.

    Args:
        model: what is called, `causal` or what wraps it.
        held: examples of one label space each; an empty list gets no score.
        compute: what it computes in.
        attention: its own within rows.
    """
    scores = {}
    for what, examples in held.items():
        if not examples:  # as where no dialogue has a second turn to forecast
            continue
        space = examples[0].label_space
        rows = probabilities(model, causal, examples, settings, compute, attention)
        gold = np.asarray([space.names.index(example.label) for example in examples])
        matrix = confusion(gold, np.stack(rows).argmax(1), len(space.names))
        scores[what] = round(100 * float(own_measure(space.name, space.names)(matrix)), 2)
    return scores


def probabilities(
    model: Any,
    causal: "PreTrainedModel",
    examples: Sequence[LabelledExample],
    settings: PromptSettings,
    compute: ComputeType,
    attention: RowAttention = RowAttention.DENSE,
) -> list[Floats]:
    """Label probabilities for each example, shape (labels,), in its label space's order.

    Processes that train together share the work, so all of them have to ask.

    Args:
        model: what is called, `causal` or what wraps it.
        compute: what it computes in.
        attention: its own within rows.
    """
    import torch

    spaces = {example.label_space.name: example.label_space for example in examples}
    first = {name: first_tokens(settings, space) for name, space in spaces.items()}
    rows = list(pack((e.example for e in examples), attention.row_tokens))
    step = _LONG_ROWS if attention is RowAttention.BLOCKS else _ROWS
    parts = [rows[start : start + step] for start in range(0, len(rows), step)]
    ends = [0, *accumulate(sum(len(row.first) for row in part) for part in parts)]
    likely: dict[int, list[Floats]] = {}
    numbers = tqdm(shared_out(len(parts)), unit=" batches", leave=False, disable=None)
    for number in numbers:
        batch = collate(parts[number], attention)
        cast = torch.autocast(causal.device.type, torch.bfloat16, enabled=compute == "bfloat16")
        with torch.no_grad(), cast:
            logits = logits_at(model, causal, batch, batch.predicting[batch.first]).cpu()
        asked = examples[ends[number] : ends[number + 1]]  # rows keep their order
        likely[number] = [
            of_vocabulary[first[example.label_space.name]].double().softmax(-1).numpy()
            for of_vocabulary, example in zip(logits, asked, strict=True)
        ]
    return [each for part in gathered(likely) for each in part]
