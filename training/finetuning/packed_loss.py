"""The loss of packed examples, and a model's logits for them.

Only the tokens that are asked about pass through the language-model head.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from training.finetuning.packing import Batch
from training.mixture.tasks import TASKS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_PROMPT_LOSS_TOKENS = 256


def packed_loss(
    model: Any,
    causal: "PreTrainedModel",
    batch: Batch,
    weights: Mapping[str, float],
    prompt_loss: float = 0.0,
) -> "torch.Tensor":
    """Sum over the tasks of weight times mean cross-entropy, in nats, of the targets' tokens.

    With the main task and emotion prediction this is L_main + alpha L_pred (InstructERC, arXiv
    2309.11911, section 3.3): two means over tokens, however many tokens each task has. Of a soft
    target it is the cross-entropy with its shares.

    Args:
        model: what is called: `causal` under an adapter, or under what shards it.
        causal: the language model itself.
        weights: by task; a task that the batch has no example of adds nothing.
        prompt_loss: weight of the mean cross-entropy of 256 random tokens of the prompts.
    """
    import torch
    from torch.nn.functional import cross_entropy

    device = causal.device
    asked, following = batch.predicting, batch.targets
    if prompt_loss:
        drawn = batch.prompt[torch.randperm(len(batch.prompt))[:_PROMPT_LOSS_TOKENS]]
        asked = torch.cat([asked, drawn])
        following = torch.cat([following, batch.ids.flatten()[drawn + 1]])
    logits = logits_at(model, causal, batch, asked)
    losses = cross_entropy(logits, following.to(device), reduction="none")
    answers, prompt = losses[: len(batch.predicting)], losses[len(batch.predicting) :]
    if len(batch.soft):
        answers = _softened(answers, logits[: len(answers)], batch)
    loss = losses.new_zeros(())
    for number, task in enumerate(TASKS):
        # Chosen where the batch lies, in the host's memory: the host would wait for a GPU to tell.
        of_task = (batch.tasks == number).nonzero().flatten()
        if weights.get(task) and len(of_task):
            loss = loss + weights[task] * answers[of_task.to(device)].mean()
    return loss + prompt_loss * prompt.mean() if prompt_loss else loss


def _softened(losses: "torch.Tensor", logits: "torch.Tensor", batch: Batch) -> "torch.Tensor":
    """The losses of tokens, shape (T,), with those of soft targets put in place."""
    at, tokens = batch.soft.to(losses.device).unbind(1)
    log_probabilities = logits[at, tokens] - logits.logsumexp(-1)[at]
    soft = losses.new_zeros(losses.shape).index_add(
        0, at, -batch.shares.to(losses.device) * log_probabilities
    )
    return losses.index_fill(0, at, 0.0) + soft


def logits_at(
    model: Any, causal: "PreTrainedModel", batch: Batch, asked: "torch.Tensor"
) -> "torch.Tensor":
    """Next-token logits at some tokens, shape (asked, vocabulary), float32.

    Args:
        asked: flat indexes into the batch's (rows * L) tokens.
    """
    device = causal.device
    inputs = {"input_ids": batch.ids.to(device), "attention_mask": batch.mask(device)}
    if batch.positions is not None:
        inputs["position_ids"] = batch.positions.to(device)
    with _head_only_at(causal, asked.to(device)):
        output = model(**inputs, use_cache=False)
    logits: torch.Tensor = output.logits.float()
    return logits


@contextmanager
def _head_only_at(causal: "PreTrainedModel", asked: "torch.Tensor") -> Iterator[None]:
    """Lets the model's own forward pass compute the head for some tokens alone.

    Before the head, so that what a model does to its logits (a scale, a cap) is done.
    """

    def select(_: Any, inputs: Sequence["torch.Tensor"]) -> tuple["torch.Tensor", ...]:
        return (inputs[0].flatten(0, -2)[asked],)

    hook = causal.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()
