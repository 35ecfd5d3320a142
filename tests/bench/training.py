"""`python -m tests.bench.training`: an epoch as the package trains it, beside a plain Trainer loop.

Both get the same examples, the same adapter on the same base and as many tokens a step. The plain
loop is what the documentation of transformers shows: each example by itself, padded to the longest
of its batch, the loss computed by the model from labels that are -100 on the prompt. Each way has a
process of its own, which says what it computed and how much memory that took.
"""

import json
import random
import re
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from service.conversation.dialogue import Dialogue
from service.conversation.labels import load_label_spaces
from service.decoding.precision import compute_type
from service.demonstrations.corpus import read_demonstrations
from service.dialogue_files import write_dialogues
from tests.bench.machine import REPOSITORY, describe
from tests.bench.processes import run_watched
from tests.bench.setup import Setup
from tests.bench.table import markdown
from training.finetuning.adapters import lora_config
from training.finetuning.loading import load_model
from training.finetuning.packing import batches, pack
from training.finetuning.processes import device
from training.finetuning.row_attention import RowAttention
from training.finetuning.row_sharing import choose_attention
from training.mixture.mixing import mix
from training.mixture.pools import Pools
from training.mixture.sources import Sources
from training.mixture.tasks import Example, prompt_settings
from training.recipe import Recipe
from training.recipe_files import load_recipe

BASE = REPOSITORY / "build" / "base" / "minilm-causal"
RECIPE = REPOSITORY / "training" / "recipes" / "erc-mini.yaml"
DATA = REPOSITORY / "data"
CORPUS, RECIPE_COPY, ADAPTER = "spoken.jsonl", "recipe.yaml", "adapter"
_LABEL_SPACE = "meld"
_TOLD = "computed positions, peak MiB: "


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch of one way to train.

    Attributes:
        seconds: as transformers' Trainer reports them, without loading and saving.
        tokens: of all prompts and targets, each counted by itself, as one asks for them.
        computed: positions that went through the model, padding included.
        peak_memory_mib: of tensors on the GPU where there is one, else of the process.
    """

    what: str
    seconds: float
    examples: int
    tokens: int
    computed: int
    peak_memory_mib: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def labelled(dialogues: Sequence[Dialogue], seed: int) -> tuple[Dialogue, ...]:
    """The dialogues with labels drawn by chance: a speed does not depend on which."""
    names = load_label_spaces(DATA / "label_spaces")[_LABEL_SPACE].names
    rng = random.Random(seed)
    return tuple(
        replace(
            dialogue,
            utterances=tuple(replace(u, label=rng.choice(names)) for u in dialogue.utterances),
        )
        for dialogue in dialogues
    )


def write_run(folder: Path, passes: int) -> None:
    """Leave dialogues of MELD's shape in a folder, and erc-mini's short stage on one task."""
    setup = Setup(bundle="", folder=str(folder))
    spoken = [dialogue for number in range(passes) for dialogue in setup.passes(number)]
    write_dialogues(labelled(spoken, seed=1), folder / CORPUS)
    recipe = yaml.safe_load(RECIPE.read_text("utf-8"))
    (polish,) = (stage for stage in recipe["stages"] if stage["name"] == "polish")
    stage = polish | {
        "corpora": [{"format": "jsonl", "path": CORPUS, "label_space": _LABEL_SPACE}],
        "epochs": 1,
        "runs": 1,
        "pseudo_labels": None,
        "unified": 0.0,
        "prompt_loss": 0.0,
    }
    stage["demonstrations"]["pools"] = ["shipped"]
    stage["balance"] = {name: p for name, p in stage["balance"].items() if name == _LABEL_SPACE}
    recipe |= {"stages": [stage], "development": [], "label_spaces": [_LABEL_SPACE]}
    (folder / RECIPE_COPY).write_text(yaml.safe_dump(recipe), encoding="utf-8")


def sources_of(folder: Path) -> Sources:
    """What a run in a folder reads."""
    from service.demonstrations.encoder import load_encoder

    spaces = load_label_spaces(DATA / "label_spaces")
    encoder = load_encoder()
    return Sources(
        data=folder,
        label_spaces=spaces,
        shipped=read_demonstrations(DATA / "demonstrations.jsonl", spaces),
        encode_texts=encoder.encode_now,
        encoder=encoder.identity,
    )


def examples_of(recipe: Recipe, sources: Sources) -> list[Example]:
    """What the package trains on in the recipe's only epoch."""
    settings = prompt_settings(recipe, BASE)
    stage = recipe.stages[0]
    corpora = sources.corpora(stage.corpora)
    pools = Pools(sources, corpora, recipe.seed, ())
    return [e.example for e in mix(corpora, stage, pools, sources, settings, recipe.seed)]


def length(example: Example) -> int:
    """Tokens of an example by itself."""
    return sum(map(len, example.segments)) + len(example.target)


@dataclass(slots=True)
class Padding:
    """Collates, and counts what it makes.

    Attributes:
        computed: positions so far, padding included.
    """

    collate: Callable[[Sequence[dict[str, list[int]]]], Any]
    computed: int = 0

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> Any:
        batch = self.collate(rows)
        self.computed += batch["input_ids"].numel()
        return batch


def train_plainly(recipe: Recipe, examples: Sequence[Example], out: Path) -> int:
    """An epoch of transformers' Trainer, and nothing else.

    Returns:
        Positions that went through the model, padding included: which examples are padded together
        is by chance.
    """
    import peft
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(BASE, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    rows = []
    for example in examples:
        prompt = [token for segment in example.segments for token in segment]
        labels = [-100] * len(prompt) + list(example.target)
        rows.append({"input_ids": [*prompt, *example.target], "labels": labels})
    stage = recipe.stages[0]
    padding = Padding(DataCollatorForSeq2Seq(tokenizer))
    model = AutoModelForCausalLM.from_pretrained(BASE, local_files_only=True, dtype=torch.float32)
    if recipe.lora is not None:
        model = peft.get_peft_model(model, lora_config(recipe.lora))
    Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(out),
            num_train_epochs=1,
            per_device_train_batch_size=plain_batch(recipe, examples),
            learning_rate=stage.learning_rate,
            bf16=compute_type(recipe.compute) == "bfloat16",
            use_cpu=not torch.cuda.is_available(),
            seed=recipe.seed,
            save_strategy="no",
            report_to="none",
            dataloader_pin_memory=False,
        ),
        train_dataset=rows,
        data_collator=padding,
    ).train()
    return padding.computed


def packed_positions(
    recipe: Recipe, examples: Sequence[Example], attention: RowAttention = RowAttention.DENSE
) -> int:
    """Positions that go through the model as the package trains, padding included."""
    size = recipe.stages[0].tokens_per_batch
    rows = list(pack(examples, attention.row_tokens_in(size)))
    return sum(
        len(batch) * attention.padded(max(len(row.ids) for row in batch))
        for batch in batches(rows, size, attention)
    )


def attention_of(recipe: Recipe) -> RowAttention:
    """How the package has the base attend within rows on this machine."""
    compute = compute_type(recipe.compute, device().type)
    model, causal = load_model(recipe, BASE, None, compute)
    model.to(device())
    return choose_attention(causal, compute)


def plain_batch(recipe: Recipe, examples: Sequence[Example]) -> int:
    """Examples a step that hold about as many tokens as the package's steps do."""
    mean = sum(map(length, examples)) / len(examples)
    return max(1, round(recipe.stages[0].tokens_per_batch / mean))


def runtime(printed: str) -> float:
    """The seconds of training in what a Trainer prints at its end.

    Raises:
        ValueError: it printed none.
    """
    match = re.search(r"'train_runtime': '?([0-9.]+)", printed)
    if match is None:
        raise ValueError(f"no train_runtime in:\n{printed[-3000:]}")
    return float(match[1])


def peak_memory_mib() -> float:
    """Of this process so far: of tensors on the GPU where there is one, else resident."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB on Linux


def told(computed: int, peak_mib: float) -> str:
    """The line in which a process says what it computed, and its peak memory, as it ends."""
    return f"\n{_TOLD}{json.dumps([computed, peak_mib])}"


def heard(printed: str) -> tuple[int, float]:
    """What a process told: positions computed, and its peak memory in MiB.

    Raises:
        ValueError: it told nothing.
    """
    match = re.search(rf"^{_TOLD}(.*)$", printed, re.MULTILINE)
    if match is None:
        raise ValueError(f"no {_TOLD!r} in:\n{printed[-3000:]}")
    computed, peak = json.loads(match[1])
    return computed, peak


def compare(folder: Path, passes: int) -> list[Epoch]:
    """Train an epoch each way, one after the other."""
    write_run(folder, passes)
    recipe = load_recipe(folder / RECIPE_COPY)
    examples = examples_of(recipe, sources_of(folder))
    tokens = sum(map(length, examples))
    epochs = []
    for what, command in (("a plain Trainer loop", "plain"), ("instructerc-train", "packed")):
        print(what, file=sys.stderr, flush=True)
        arguments = [sys.executable, "-m", "tests.bench.training", command, str(folder)]
        printed = run_watched(arguments).printed
        seconds, (computed, peak) = runtime(printed), heard(printed)
        epochs.append(Epoch(what, seconds, len(examples), tokens, computed, peak))
    return epochs


def table(epochs: Sequence[Epoch]) -> str:
    """One line a way, in Markdown, and the ratio of the last to the first."""
    heads = ("way", "seconds", "examples/s", "tokens/s", "computed of the tokens", "peak MiB")
    rows = [
        (
            *(epoch.what, f"{epoch.seconds:.1f}", f"{epoch.examples / epoch.seconds:.1f}"),
            *(f"{epoch.tokens_per_second:.0f}", f"{epoch.computed / epoch.tokens:.2f}"),
            f"{epoch.peak_memory_mib:.0f}",
        )
        for epoch in epochs
    ]
    ratio = epochs[-1].tokens_per_second / epochs[0].tokens_per_second
    return f"{markdown(heads, rows)}\n\n{ratio:.2f} times as fast"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    passes: Annotated[int, typer.Option(help="Of 60 dialogues each.")] = 1,
    out: Annotated[Path | None, typer.Option(help="File of the results, as JSON.")] = None,
) -> None:
    """Train an epoch on dialogues of MELD's shape, both ways, and print a table."""
    if context.invoked_subcommand is not None:
        return
    described: dict[str, Any] = describe() | {"date": datetime.now(UTC).date().isoformat()}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        epochs = compare(Path(folder), passes)
    print(table(epochs))
    if out is not None:
        ways = [asdict(e) | {"tokens_per_second": e.tokens_per_second} for e in epochs]
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(described | {"epochs": ways}, indent=1) + "\n")


@app.command(hidden=True)
def plain(folder: Path) -> None:
    """Train plainly in this process."""
    recipe = load_recipe(folder / RECIPE_COPY)
    examples = examples_of(recipe, sources_of(folder))
    computed = train_plainly(recipe, examples, folder / "plain")
    print(told(computed, peak_memory_mib()))


@app.command(hidden=True)
def packed(folder: Path) -> None:
    """Train as the package does in this process."""
    from training.finetuning import finetune

    recipe = load_recipe(folder / RECIPE_COPY)
    sources = sources_of(folder)
    finetune.train(recipe, BASE, sources, folder / ADAPTER)
    peak = peak_memory_mib()
    examples = examples_of(recipe, sources)
    print(told(packed_positions(recipe, examples, attention_of(recipe)), peak))


if __name__ == "__main__":
    app()
