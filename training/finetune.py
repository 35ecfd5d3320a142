"""Fine-tunes a LoRA adapter as a recipe says."""

import json
import logging
import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from service.conversation.dialogue import HistoryWindow
from service.conversation.labels import UNIFIED
from service.conversation.prompts import TEMPLATES
from service.conversation.prompts.tokens import verbalizer_ids
from service.decoding.bundle import Base, Bundle, Window, trained_labels, write_bundle
from service.decoding.tokenizer import load_tokenizer
from training.bases import base_revision
from training.datasets.fingerprint import fingerprint
from training.datasets.reading import Corpus
from training.mixing import Pools, Sources, mix
from training.packing import Batch, Row, batches, collate, pack
from training.recipe import Lora, Recipe, RecipeError, Stage
from training.tasks import LabelledExample, PromptSettings

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

# Short rows keep the attention's square small beside the rest of the work: on two cores 448 tokens
# a row trained 1.3 times as fast as 640.
ROW_TOKENS = 448
_PROMPT_LOSS_TOKENS = 256
_EVALUATION_ROWS = 8


def train(recipe: Recipe, base: Path, sources: Sources, encoder: str, out: Path) -> None:
    """Run every stage of a recipe and write the adapter.

    Args:
        base: the folder of the base model.
        encoder: identity of the encoder that `sources` pairs demonstrations with.
        out: gets the adapter, `bundle.json` for the bundle that a merge makes of it, and
            `training.json`, which keeps the recipe and the development scores of each epoch.

    Raises:
        DatasetError: a corpus file is not what the recipe says.
        RecipeError: the recipe names a label space that no stage trains.
        OSError: the base or the output folder cannot be used.
    """
    from transformers import set_seed

    set_seed(recipe.seed)
    settings = prompt_settings(recipe, base)
    stages = [(stage, sources.corpora(stage.corpora)) for stage in recipe.stages]
    last, last_corpora = stages[-1]
    _check_label_spaces(recipe, [corpus for _, corpora in stages for corpus in corpora])
    development = sources.corpora(recipe.development)
    pools = Pools(sources, last_corpora, recipe.seed)
    held_out = [
        example
        for share in ((0.0, 1.0) if last.demonstrations.count else (0.0,))
        for example in mix(
            development, _all_or_none(last, share), pools, sources, settings, recipe.seed
        )
    ]
    out.mkdir(parents=True, exist_ok=True)
    write_bundle(_bundle(recipe, base, sources, encoder), out)
    model = _adapted(recipe, base)
    history: list[dict[str, Any]] = []
    for stage, corpora in stages:
        pools = Pools(sources, corpora, recipe.seed)
        examples = [
            example
            for epoch in range(stage.epochs)
            for example in mix(corpora, stage, pools, sources, settings, recipe.seed + epoch)
        ]
        rows = list(pack((e.example for e in examples), ROW_TOKENS))
        log.info(
            "stage %s: %d examples, %d tokens packed into %d",
            stage.name,
            len(examples),
            sum(len(s) for e in examples for s in e.example.segments),
            sum(len(row.ids) for row in rows),
        )

        def after_epoch(epoch: float, stage: Stage = stage) -> None:
            scores = development_scores(model.get_base_model(), held_out, settings)
            log.info("stage %s, epoch %g: %s", stage.name, epoch, json.dumps(scores))
            history.append({"stage": stage.name, "epoch": epoch, "weighted_f1": scores})

        _run_stage(model, stage, rows, recipe.seed, out / "checkpoints" / stage.name, after_epoch)
    model.save_pretrained(out)
    record = {"recipe": recipe.model_dump(mode="json"), "development": history}
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def prompt_settings(recipe: Recipe, base: Path) -> PromptSettings:
    """How a recipe renders prompts for the base in a folder."""
    return PromptSettings(
        TEMPLATES[recipe.template],
        HistoryWindow(recipe.window.lowest, recipe.window.highest),
        load_tokenizer(base),
        recipe.max_tokens,
    )


def packed_loss(causal: "PreTrainedModel", batch: Batch, prompt_loss: float) -> "torch.Tensor":
    """Mean cross-entropy, in nats, of the targets' tokens.

    Only the tokens that predict something pass through the language-model head.

    Args:
        causal: the model under the adapter.
        batch: packed rows.
        prompt_loss: weight of the same on 256 random tokens of the prompts.
    """
    import torch
    from torch.nn.functional import cross_entropy

    hidden, device = _hidden(causal, batch), causal.device
    head = causal.get_output_embeddings()
    said = head(hidden[batch.predicting.to(device)]).float()
    loss = cross_entropy(said, batch.targets.to(device))
    if prompt_loss:
        drawn = batch.prompt[torch.randperm(len(batch.prompt))[:_PROMPT_LOSS_TOKENS]].to(device)
        following = batch.ids.flatten().to(device)[drawn + 1]
        loss = loss + prompt_loss * cross_entropy(head(hidden[drawn]).float(), following)
    return loss


def development_scores(
    causal: "PreTrainedModel", examples: Sequence[LabelledExample], settings: PromptSettings
) -> dict[str, float]:
    """Weighted F1 in percent, by label space, with demonstrations and without.

    A look at the run as it goes, by first tokens on transformers; `instructerc-train evaluate`
    reports what the service would answer.
    """
    import torch
    from sklearn.metrics import f1_score

    first = {
        e.label_space.name: [
            verbalizer_ids(settings.template, verbalizer, settings.tokenizer.encode)[0]
            for verbalizer in e.label_space.verbalizers
        ]
        for e in examples
    }
    gold: dict[str, list[str]] = {}
    said: dict[str, list[str]] = {}
    remaining = iter(examples)
    rows = list(pack((e.example for e in examples), ROW_TOKENS))
    for start in range(0, len(rows), _EVALUATION_ROWS):
        batch = collate(rows[start : start + _EVALUATION_ROWS])
        with torch.no_grad(), torch.autocast(causal.device.type, torch.bfloat16):
            hidden = _hidden(causal, batch)[batch.predicting[batch.first].to(causal.device)]
            logits = causal.get_output_embeddings()(hidden).float().cpu().numpy()
        for scores in logits:
            example = next(remaining)
            space = example.label_space
            shown = "with" if example.demonstrations else "without"
            key = f"{space.name}, {shown} demonstrations"
            gold.setdefault(key, []).append(example.label)
            best = int(np.argmax(scores[first[space.name]]))
            said.setdefault(key, []).append(space.names[best])
    return {
        key: round(100 * float(f1_score(gold[key], said[key], average="weighted")), 2)
        for key in gold
    }


def _check_label_spaces(recipe: Recipe, corpora: Sequence[Corpus]) -> None:
    """A bundle must not answer in a label space that the model never saw."""
    trained = {corpus.label_space.name for corpus in corpora}
    if any(stage.unified for stage in recipe.stages):
        trained.add(UNIFIED)
    if untrained := set(recipe.label_spaces) - trained:
        raise RecipeError(
            f"recipe {recipe.name}: label_spaces: no stage trains {', '.join(sorted(untrained))}"
        )


def _all_or_none(stage: Stage, share: float) -> Stage:
    """The stage with demonstrations in every prompt or in none, in the corpora's own labels."""
    demonstrations = stage.demonstrations.model_copy(update={"share": share})
    return stage.model_copy(update={"demonstrations": demonstrations, "unified": 0.0})


def _adapted(recipe: Recipe, base: Path) -> "PeftModel":
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    causal = AutoModelForCausalLM.from_pretrained(
        base, local_files_only=True, dtype=torch.float32, attn_implementation="sdpa"
    )
    return peft.get_peft_model(causal, lora_config(recipe.lora))


def lora_config(lora: Lora) -> "LoraConfig":
    """What peft makes of a recipe's adapter."""
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        bias=lora.bias,
        modules_to_save=list(lora.whole) or None,
    )


def _run_stage(
    model: "PeftModel",
    stage: Stage,
    rows: Sequence[Row],
    seed: int,
    checkpoints: Path,
    after_epoch: Callable[[float], None],
) -> None:
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class PackedTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed here
        def compute_loss(
            self, model: Any, inputs: dict[str, Batch], *_: Any, **__: Any
        ) -> torch.Tensor:
            return packed_loss(model.get_base_model(), inputs["batch"], stage.prompt_loss)

    class AfterEpoch(TrainerCallback):  # type: ignore[misc]
        def on_save(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            model.eval()
            after_epoch(round(state.epoch * stage.epochs, 1))
            model.train()

    items = batches(rows, stage.tokens_per_batch)
    PackedTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(checkpoints),
            num_train_epochs=1,  # the rows are of all epochs
            per_device_train_batch_size=1,  # an item is a whole batch of rows
            learning_rate=stage.learning_rate,
            warmup_steps=stage.warmup,
            lr_scheduler_type="linear",
            max_grad_norm=1.0,
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
            logging_steps=20,
            save_strategy="steps",
            save_steps=math.ceil(len(items) / stage.epochs),
            save_only_model=True,
            report_to="none",
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        ),
        train_dataset=items,
        data_collator=lambda items: {"batch": collate(items[0])},
        callbacks=[AfterEpoch()],
    ).train()


def _hidden(causal: "PreTrainedModel", batch: Batch) -> "torch.Tensor":
    """Last hidden states of every token, shape (rows * L, hidden)."""
    output = causal.base_model(
        input_ids=batch.ids.to(causal.device),
        attention_mask=batch.visible.to(causal.device),
        position_ids=batch.positions.to(causal.device),
        use_cache=False,
    )
    states: torch.Tensor = output.last_hidden_state
    return states.flatten(0, 1)


def _bundle(recipe: Recipe, base: Path, sources: Sources, encoder: str) -> Bundle:
    files = {f.path for stage in recipe.stages for f in stage.corpora}
    return Bundle(
        format=1,
        name=recipe.name,
        version=recipe.version,
        base=Base(name=recipe.base, revision=base_revision(base)),
        template=recipe.template,
        window=Window(lowest=recipe.window.lowest, highest=recipe.window.highest),
        max_tokens=recipe.max_tokens,
        demonstrations=recipe.stages[-1].demonstrations.count,
        label_spaces={n: trained_labels(sources.label_spaces[n]) for n in recipe.label_spaces},
        encoder=encoder,
        data={path.as_posix(): fingerprint(sources.data / path) for path in sorted(files)},
        code_version=version("instructerc"),
    )
