"""Trains on a stage's rows: steps, checkpoints, and resumption after a kill."""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.decoding.precision import ComputeType
from training.finetuning.averaging import WeightAverage
from training.finetuning.packed_loss import packed_loss
from training.finetuning.packing import Batch, Row, batches, collate
from training.finetuning.row_attention import RowAttention
from training.recipe import Recipe, Stage

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, TrainingArguments

log = logging.getLogger(__name__)

# Written last: a checkpoint that has it is complete.
_STATE = "trainer_state.json"
_CHECKPOINTS_KEPT = 2
_KEPT = "kept"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that training a stage needs besides the stage.

    Attributes:
        model: with the adapter, if there is one; `causal` is the language model under it.
        compute: what the model computes in.
        attention: the model's within rows.
        recompute: whether activations are computed again in the backward pass.
        seed: decides the order of the batches, and what dropout drops.
        checkpoints: the stage's folder of them.
        logs: a folder for TensorBoard; None in all processes but the first.
        save_every: steps between two checkpoints, the most that a kill can lose.
        after_epoch: called with the trainer's own model and the epochs done; its scores by name,
            and whether they are the stage's best so far.
    """

    model: Any
    causal: "PreTrainedModel"
    compute: ComputeType
    attention: RowAttention
    recompute: bool
    seed: int
    checkpoints: Path
    logs: Path | None
    save_every: int
    after_epoch: Callable[[Any, int], tuple[dict[str, float], bool]]


def run_stage(recipe: Recipe, stage: Stage, rows: Sequence[Row], run: Run) -> None:
    """Train on a stage's rows, from its last whole checkpoint if there is one.

    Several processes, as `torchrun` or `accelerate launch` starts them, share the batches; how the
    model is sharded among them is accelerate's to say (`training/launch/`).
    """
    from peft.helpers import disable_input_dtype_casting
    from tensorboardX import SummaryWriter
    from transformers import Trainer, TrainerCallback
    from transformers.integrations import TensorBoardCallback

    class PackedTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed here
        def compute_loss(
            self, model: Any, inputs: dict[str, Batch], *_: Any, **__: Any
        ) -> "torch.Tensor":
            weights = dict(stage.tasks)
            return packed_loss(model, run.causal, inputs["batch"], weights, stage.prompt_loss)

        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            super().save_model(output_dir, _internal_call)
            # Of a checkpoint, and by one process: all of them have the same weights.
            if _internal_call and output_dir is not None and self.args.should_save:
                average.save(Path(output_dir))

    class AfterEpoch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, _: Any, state: Any, control: Any, **__: Any) -> None:
            done, before = (
                _epochs_done(stage, step, state.max_steps)
                for step in (state.global_step, state.global_step - 1)
            )
            if state.global_step > (1 - stage.average) * state.max_steps:
                average.add()
            if state.global_step == state.max_steps:
                average.apply()
            if done > before:
                wrapped = trainer.model_wrapped
                wrapped.eval()
                scores, best = run.after_epoch(wrapped, done)
                if writer is not None:
                    for what, score in scores.items():
                        writer.add_scalar(_tag(what), score, state.global_step)
                wrapped.train()
                if best and stage.keep == "best":
                    trainer.save_model(str(kept_weights(run.checkpoints)))
                control.should_save = True

    # Where `bf16` is off, accelerate takes what its launcher was told; here the run decides.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if run.compute == "bfloat16" else "no"
    average = WeightAverage(run.model)
    writer = None if run.logs is None else SummaryWriter(str(run.logs))
    callbacks = [AfterEpoch(), *([TensorBoardCallback(writer)] if writer else [])]
    trainer = PackedTrainer(
        model=run.model,
        args=_arguments(recipe, stage, run),
        train_dataset=batches(rows, stage.tokens_per_batch, run.attention),
        data_collator=lambda items: {"batch": collate(items[0], run.attention)},
        callbacks=callbacks,
    )
    last = last_checkpoint(run.checkpoints)
    if last is not None:
        log.info("stage %s: resumes from %s", stage.name, last.name)
        average.load(last)
    # peft casts the inputs of LoRA layers to the adapter's float32. Where the model computes in
    # bfloat16 they are cast back before they are used: a tenth of a step's time, for the same
    # numbers.
    with disable_input_dtype_casting(run.model, active=run.compute == "bfloat16"):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if stage.keep == "last":
        trainer.save_model(str(kept_weights(run.checkpoints)))
    trainer.accelerator.wait_for_everyone()  # until the first process has written them


def _arguments(recipe: Recipe, stage: Stage, run: Run) -> "TrainingArguments":
    """The arguments of transformers' trainer for a stage."""
    import torch
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(run.checkpoints),
        num_train_epochs=1,
        per_device_train_batch_size=1,  # an item is a whole batch of rows
        gradient_accumulation_steps=stage.batches_per_step,
        learning_rate=stage.learning_rate,
        adam_beta1=stage.betas[0],
        adam_beta2=stage.betas[1],
        warmup_steps=stage.warmup,
        weight_decay=stage.weight_decay,
        **_schedule(stage),
        max_grad_norm=1.0,
        bf16=run.compute == "bfloat16",
        gradient_checkpointing=run.recompute,
        use_cpu=not torch.cuda.is_available(),
        seed=run.seed,
        logging_steps=20,
        save_strategy="steps",
        save_steps=run.save_every,
        save_total_limit=_CHECKPOINTS_KEPT,
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )


def _epochs_done(stage: Stage, step: int, steps: int) -> int:
    """How many epochs have ended: rows of all of them mix, so each is a share of the steps."""
    return step * stage.epochs // steps


def _schedule(stage: Stage) -> dict[str, Any]:
    """The arguments that make the stage's learning rates."""
    if not stage.floor:
        return {"lr_scheduler_type": stage.schedule}
    return {
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": stage.floor},
    }


def _tag(what: str) -> str:
    """A score's name as TensorBoard allows it: "development/meld/with_demonstrations"."""
    return f"development/{what.replace(', ', '/').replace(' ', '_')}"


def kept_weights(checkpoints: Path) -> Path:
    """The folder of the weights that a finished stage keeps: the last ones, or the best."""
    return checkpoints / _KEPT


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; incomplete ones are removed."""
    checkpoints = {int(m[1]): p for p in folder.glob("*") if (m := _CHECKPOINT.fullmatch(p.name))}
    for _, path in sorted(checkpoints.items(), reverse=True):
        if (path / _STATE).is_file():
            return path
        shutil.rmtree(path, ignore_errors=True)
    return None


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints and kept weights of all stages and their runs, and nothing else."""
    for path in [*folder.glob("*/*"), *folder.glob("*/*/*")]:
        if path.name == _KEPT or _CHECKPOINT.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
    for path in (*folder.glob("*/*"), *folder.glob("*"), folder):
        with contextlib.suppress(OSError):  # where somebody else has put something
            path.rmdir()
