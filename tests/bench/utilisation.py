"""`python -m tests.bench.utilisation`: how much of a GPU's matrix rate fine-tuning makes use of.

A model of Llama-2-7B's shape with random weights, the adapter of the recipe `instructerc`, and
steps as the package takes them: packed rows, the head only where there is a loss, in what the
machine multiplies.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.decoding.precision import ComputeType, compute_type, device_type
from tests.bench.floor import measure_matrix_rate
from tests.bench.machine import describe
from tests.bench.table import markdown
from tests.bench.training import peak_memory_mib
from training.finetuning.adapters import lora_config
from training.finetuning.packed_loss import packed_loss
from training.finetuning.packing import Batch, batches, collate, pack
from training.finetuning.row_attention import RowAttention
from training.finetuning.row_sharing import choose_attention
from training.mixture.tasks import Example
from training.recipe import Lora
from training.recipe_files import load_runs, recipe_path

if TYPE_CHECKING:
    from torch import nn
    from transformers import LlamaConfig

LENGTH = 512
_ANSWER = 4  # tokens of a target
_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Work:
    """What a token goes through.

    Attributes:
        frozen: numbers in the matrices of the layers.
        trained: numbers in the adapter's.
        head: numbers in the output layer, which only the tokens that are asked about go through.
        attention: layers times heads times the size of a head.
    """

    frozen: int
    trained: int
    head: int
    attention: int


def operations(work: Work, rows: int, length: int, predicted: int) -> int:
    """Floating-point operations of a training step that the model cannot do without.

    A matrix takes 2 for each of its numbers and tokens in the forward pass, and as many in the
    backward pass for the gradient of what it was given; the gradient of the matrix itself, 2 more,
    is only computed where it is trained. So it is 4 of what is frozen in place of the 6 of PaLM
    (Chowdhery et al. 2022, arXiv 2204.02311, appendix B), from which the rest is: 12 L H Q T a
    token for attention, which has no weights, the masked half of it included, and nothing for what
    checkpointing computes again.

    Args:
        rows: sequences, of `length` tokens each.
        asked: tokens in all that go through the head, which is frozen.
    """
    each = 4 * work.frozen + 6 * work.trained + 12 * work.attention * length
    return rows * length * each + predicted * 4 * work.head


def work_of(model: "nn.Module", config: "LlamaConfig") -> Work:
    """What a token goes through in a Llama with an adapter."""
    matrices = {name: p for name, p in model.named_parameters() if p.ndim == 2}
    layers = {name: p.numel() for name, p in matrices.items() if ".layers." in name}
    trained = sum(size for name, size in layers.items() if matrices[name].requires_grad)
    (head,) = (p.numel() for name, p in matrices.items() if name.endswith("lm_head.weight"))
    width = config.num_attention_heads * int(config.head_dim or 0)
    return Work(sum(layers.values()) - trained, trained, head, config.num_hidden_layers * width)


@dataclass(frozen=True, slots=True)
class Utilisation:
    """What was measured of some steps.

    Attributes:
        rows: a step.
        compute: what is computed in.
        matrix_rate: operations a second that the device reaches on large matrices of that type.
        peak_memory_mib: see `tests.bench.training.peak_memory_mib`.
    """

    rows: int
    length: int
    checkpointing: bool
    compute: ComputeType
    steps: int
    seconds: float
    operations_a_step: int
    matrix_rate: float
    peak_memory_mib: float

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations_a_step * self.steps / self.seconds

    @property
    def tokens_per_second(self) -> float:
        return self.rows * self.length * self.steps / self.seconds


def llama_2_7b() -> "LlamaConfig":
    """The shape of meta-llama/Llama-2-7b-hf."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=32_000,
        hidden_size=4096,
        intermediate_size=11_008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
        max_position_embeddings=4096,
    )


def adapter() -> Lora:
    """The one that the recipe `instructerc` trains: rank 16."""
    lora = next(iter(load_runs(recipe_path("instructerc")).values())).lora
    if lora is None:
        raise ValueError("the recipe instructerc trains no adapter")
    return lora


def measure(
    config: "LlamaConfig",
    lora: Lora,
    rows: int,
    steps: int,
    *,
    checkpointing: bool,
    matrix_rate: Callable[[ComputeType], float] = measure_matrix_rate,
) -> Utilisation:
    """Take some steps on rows of random tokens, on the GPU if there is one, after a warm-up."""
    rate = matrix_rate(compute_type(device=device_type()))
    trained = _trained(config, lora, checkpointing)
    random = Random(1)
    made = [batch_of(random, rows, config.vocab_size) for _ in range(_WARM_UP + steps)]
    seconds = trained.seconds(made[:_WARM_UP], made[_WARM_UP:])
    predicted = len(made[0].predicting)
    needed = operations(work_of(trained.model, config), rows, LENGTH, predicted)
    return Utilisation(
        *(rows, LENGTH, checkpointing, trained.compute, steps, seconds, needed, rate),
        peak_memory_mib=peak_memory_mib(),
    )


@dataclass(frozen=True, slots=True)
class _Trained:
    """A model with an adapter, and what takes steps on batches."""

    model: Any
    causal: Any
    compute: ComputeType
    step: Callable[[Batch], None]

    def seconds(self, warm_up: Sequence[Batch], timed: Sequence[Batch]) -> float:
        """Seconds of steps on batches, after others."""
        for batch in warm_up:
            self.step(batch)
        begun = self._finished()
        for batch in timed:
            self.step(batch)
        return self._finished() - begun

    def _finished(self) -> float:
        import torch

        if self.causal.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def _trained(config: "LlamaConfig", lora: Lora, checkpointing: bool) -> _Trained:
    """A model with random weights, on the GPU if there is one."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    device = device_type()
    compute = compute_type(device=device)
    torch.manual_seed(1)
    with torch.device(device):
        causal = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, compute), attn_implementation="sdpa"
        )
        model: Any = peft.get_peft_model(causal, lora_config(lora))
    if checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step(batch: Batch) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=compute == "bfloat16"):
            loss = packed_loss(model, causal, batch, {"main": 1.0})
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return _Trained(model, causal, compute, step)


@dataclass(frozen=True, slots=True)
class Sharing:
    """What was measured of steps on rows that examples share.

    Attributes:
        attention: within rows.
        row_tokens: that rows are packed to.
        computed: positions in all steps, padding included.
    """

    attention: str
    row_tokens: int
    examples: int
    computed: int
    seconds: float

    @property
    def examples_per_second(self) -> float:
        return self.examples / self.seconds


def measure_sharing(
    config: "LlamaConfig",
    lora: Lora,
    examples: Sequence[Example],
    tokens_per_batch: int,
    steps: int,
    *,
    checkpointing: bool,
) -> list[Sharing]:
    """Take some steps on rows with a mask for each pair, then with the attention of this machine.

    Each on its first batches but those with the shortest rows; what is compiled is compiled before.
    """
    trained = _trained(config, lora, checkpointing)
    own = choose_attention(trained.causal, trained.compute)
    found = []
    for attention in dict.fromkeys((RowAttention.DENSE, own)):
        attention.set_in(trained.causal)
        rows = list(pack(examples, attention.row_tokens_in(tokens_per_batch)))
        made = batches(rows, tokens_per_batch, attention)[-steps - 1 : -1]  # the last is not full
        collated = [collate(batch, attention) for batch in made]
        seconds = trained.seconds(collated, collated)
        found.append(
            Sharing(
                attention.value,
                attention.row_tokens,
                sum(len(row.first) for batch in made for row in batch),
                sum(batch.ids.numel() for batch in collated),
                seconds,
            )
        )
    return found


def batch_of(random: Random, rows: int, vocabulary: int) -> Batch:
    """Rows of one example each, random tokens all of them."""
    examples = []
    for _ in range(rows):
        tokens = tuple(random.randrange(vocabulary) for _ in range(LENGTH))
        examples.append(Example((tokens[:-_ANSWER],), tokens[-_ANSWER:]))
    return collate(list(pack(examples, LENGTH)))


def table(utilisation: Utilisation, stated_tflops: float | None) -> str:
    """One line in Markdown."""
    cells = {
        "rows a step": str(utilisation.rows),
        "checkpointing": "yes" if utilisation.checkpointing else "no",
        "in": utilisation.compute,
        "tokens/s": f"{utilisation.tokens_per_second:.0f}",
        "TFLOP/s": f"{utilisation.rate / 1e12:.1f}",
        "of the measured matrix rate": _share(utilisation.rate, utilisation.matrix_rate),
    }
    if stated_tflops is not None:
        cells["of the stated peak"] = _share(utilisation.rate, stated_tflops * 1e12)
    cells["peak MiB"] = f"{utilisation.peak_memory_mib:.0f}"
    return markdown(tuple(cells), [tuple(cells.values())])


def _share(rate: float, of: float) -> str:
    return f"{100 * rate / of:.1f}% of {of / 1e12:.0f}"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    rows: Annotated[int, typer.Option(min=1, help=f"Sequences of {LENGTH} tokens a step.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Timed ones.")] = 20,
    checkpointing: Annotated[
        bool, typer.Option(help="Compute activations again in the backward pass.")
    ] = False,
    stated_tflops: Annotated[
        float | None, typer.Option(help="Peak that the GPU's maker states for dense matrices.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File of the results, as JSON.")] = None,
) -> None:
    """Train an adapter on a model of Llama-2-7B's shape, and print a table."""
    import torch

    if not torch.cuda.is_available():
        why = "there is no GPU here, and a model of 7 billion parameters needs one"
        typer.echo(f"utilisation: {why}", err=True)
        raise typer.Exit(2)
    described: dict[str, Any] = describe() | {"date": datetime.now(UTC).date().isoformat()}
    utilisation = measure(llama_2_7b(), adapter(), rows, steps, checkpointing=checkpointing)
    print(table(utilisation, stated_tflops))
    if out is not None:
        numbers = asdict(utilisation) | {
            "tokens_per_second": utilisation.tokens_per_second,
            "utilisation": utilisation.rate / utilisation.matrix_rate,
            "stated_tflops": stated_tflops,
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(described | {"training": numbers}, indent=1) + "\n")


if __name__ == "__main__":
    app()
