"""`python -m tests.bench.try_gpu` (`make try-gpu`): a first look at a GPU, in less than 8 minutes.

Whether what is installed runs there, whether labels are those of transformers, and how much of the
GPU serving and training make use of: with the shipped model, and with one of Llama-2-7B's shape and
random weights, which needs no download. Each step is a process of its own, so that one that fails
or hangs leaves the GPU and the time to the others.
"""

import importlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import uvloop

from service.decoding.bundle import FILE, read_bundle, write_bundle
from service.decoding.model_folder import WHOLE
from service.doctor.findings import check
from service.doctor.machine import machine, precision
from service.outputs import CONTENTS
from service.settings import load_settings
from tests.bench import agreement
from tests.bench.floor import layer_parameters, measure_matrix_rate
from tests.bench.machine import REPOSITORY, describe, slug
from tests.bench.passes import WARM_UP
from tests.bench.prompts import record_prompts
from tests.bench.rows import batch
from tests.bench.rows.engine import read_all, start_like_the_service
from tests.bench.setup import Setup
from tests.bench.table import markdown
from tests.bench.training import RECIPE_COPY, examples_of, sources_of, write_run
from tests.bench.turns import in_waves
from tests.bench.utilisation import adapter, llama_2_7b, measure_sharing
from tests.bench.utilisation import measure as measure_training
from training.finetuning.memory import recomputes
from training.finetuning.row_attention import RowAttention
from training.recipe_files import load_recipe, load_runs, recipe_path

if TYPE_CHECKING:
    from transformers import LlamaConfig

SHIPPED = REPOSITORY / "build" / "bundles" / "erc-mini"
_SHAPE = "llama-2-7b-shape"
_NEEDED = ("torch", "vllm", "transformers", "peft", "accelerate", "tensorboardX")
_LABELS = 200  # utterances whose labels are compared
_FEW_DIALOGUES = 4  # of a tiny trial's pass
_TIMES = {"rows": 8, "steps": 10}  # of training, 512 tokens a row
_SHARED_STEPS = 5

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trial:
    """What every step is given.

    Attributes:
        folder: for what steps leave to each other.
        tiny: sizes that a CPU gets through in a minute or two, to show that the steps run.
        matrix_rate: operations a second, once it is measured.
    """

    folder: Path
    tiny: bool
    matrix_rate: float

    def setup(self, bundle: Path) -> Setup:
        return Setup(str(bundle), str(self.folder), quick=self.tiny)

    def shape(self) -> "LlamaConfig":
        """Llama-2-7B's, or a tiny one like it."""
        from transformers import LlamaConfig

        if not self.tiny:
            return llama_2_7b()
        return LlamaConfig(
            vocab_size=32_000,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=0.2,
        )

    @property
    def written(self) -> Path:
        """The bundle of that shape, once it is written."""
        return self.folder / _SHAPE


def _install(_: Trial) -> Result:
    """Import what is needed, and ask the driver."""
    for name in _NEEDED:
        importlib.import_module(name)
    found = [check("machine", machine), check("precision", lambda: precision(_dtype()))]
    if failed := [each for each in found if each.status == "failed"]:
        raise RuntimeError("; ".join(f"{each.detail} -> {each.remedy}" for each in failed))
    return {each.name: each.detail for each in found}


def _dtype() -> Any:
    return load_settings().engine.dtype


def _matrix_rate(_: Trial) -> Result:
    return {"operations_per_second": measure_matrix_rate()}


def _write_shape(trial: Trial) -> Result:
    """Write a bundle of that shape, with random weights and the shipped model's tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(trial.shape(), dtype=torch.bfloat16)
    model.save_pretrained(trial.written)
    for path in SHIPPED.iterdir():
        if path.name not in (WHOLE, CONTENTS, FILE) and "config" not in path.stem:
            shutil.copy(path, trial.written)
    shutil.copy(SHIPPED / "tokenizer_config.json", trial.written)
    write_bundle(read_bundle(SHIPPED).model_copy(update={"name": _SHAPE}), trial.written)
    return {"parameters": model.num_parameters()}


def _serve(bundle: Path, trial: Trial) -> Result:
    """Read the service's prompts with its engine, and compare labels with transformers'."""
    return uvloop.run(_read(bundle, trial))


async def _read(bundle: Path, trial: Trial) -> Result:
    setup = trial.setup(bundle)
    _, space = setup.load_bundle()
    few = _FEW_DIALOGUES if trial.tiny else None
    spoken = [(setup.passes(number)[:few], space) for number in (WARM_UP, *setup.measured_passes)]
    with tempfile.TemporaryDirectory(dir=trial.folder) as index:
        warm_up, *recorded = await record_prompts(bundle, spoken, Path(index), demonstrations=False)
    turns = in_waves([dialogue for of_pass in recorded for dialogue in of_pass])
    compared = [(turns[:_LABELS], space)]
    begun = time.perf_counter()
    engine = await start_like_the_service(setup)
    started = time.perf_counter()
    try:
        await read_all(engine, in_waves(warm_up))
        first = time.perf_counter()
        answered = await read_all(engine, turns)
        seconds = time.perf_counter() - first
        (fast,) = await agreement.predictions(setup, engine, compared, places=256)
    finally:
        await engine.close()
    (plain,) = await agreement.predictions(setup, agreement.plain_engine(bundle), compared, 1)
    labels = agreement.compare(fast, plain)
    tokens = sum(len(read.prompt) for turn in turns for read in turn)
    computed = tokens - sum(cached for _, cached in answered)
    return {
        "start_s": started - begun,
        "utterances_per_second": len(turns) / seconds,
        "computed_tokens_per_second": computed / seconds,
        "operations_per_second": computed / seconds * 2 * layer_parameters(bundle),
        "labels": labels.utterances,
        "equal_labels": labels.equal_share,
        "worst_probability": labels.worst,
        "mean_probability": labels.mean,
    }


def _post(bundle: Path, trial: Trial) -> Result:
    """Post dialogues to the running service, POST /batch."""
    (measured,) = batch.measure(trial.setup(bundle), demonstrations=False)
    return {"utterances_per_second": measured.per_second, "rejects": measured.rejects}


def _train(trial: Trial) -> Result:
    """Train the adapter of the recipe `instructerc` on that shape."""
    found = measure_training(
        trial.shape(),
        adapter(),
        **({"rows": 1, "steps": 1} if trial.tiny else _TIMES),
        checkpointing=_recomputes(trial),
        matrix_rate=lambda _: trial.matrix_rate,
    )
    return asdict(found) | {
        "operations_per_second": found.rate,
        "tokens_per_second": found.tokens_per_second,
    }


def _recomputes(trial: Trial) -> bool:
    """Whether that recipe has activations computed again."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(trial.shape())
    return recomputes(next(iter(load_runs(recipe_path("instructerc")).values())), model)


def _share(trial: Trial) -> Result:
    """Train it on rows that the prompts of MELD-like dialogues share, in each way there is here."""
    folder = trial.folder / "shared"
    folder.mkdir()
    write_run(folder, passes=1)
    recipe = load_recipe(folder / RECIPE_COPY)
    found = measure_sharing(
        trial.shape(),
        adapter(),
        examples_of(recipe, sources_of(folder)),
        448 if trial.tiny else 4096,
        1 if trial.tiny else _SHARED_STEPS,
        checkpointing=_recomputes(trial),
    )
    return {
        each.attention: asdict(each) | {"examples_per_second": each.examples_per_second}
        for each in found
    }


# In this order: what comes last is what is missed least if the time is over.
STEPS: Mapping[str, Callable[[Trial], Result]] = {
    "installation": _install,
    "matrix rate": _matrix_rate,
    "erc-mini: engine": lambda trial: _serve(SHIPPED, trial),
    "7B shape: written": _write_shape,
    "7B shape: engine": lambda trial: _serve(trial.written, trial),
    "7B shape: training": _train,
    "7B shape: shared rows": _share,
    "erc-mini: service": lambda trial: _post(SHIPPED, trial),
    "7B shape: service": lambda trial: _post(trial.written, trial),
}


@dataclass(frozen=True, slots=True)
class Done:
    """A step that has ended; `error` has the end of what it printed if it failed."""

    seconds: float
    result: Result | None
    error: str | None = None


def in_words(done: Done, matrix_rate: float) -> str:
    """What a step found, for the table."""
    if done.result is None:
        return f"FAILED: {(done.error or 'it said nothing').strip().splitlines()[-1]}"
    found = done.result
    parts = [str(found[name]) for name in ("machine", "precision") if name in found]
    if "parameters" in found:
        parts.append(f"{found['parameters'] / 1e6:,.0f} M parameters, random")
    if "start_s" in found:
        parts.append(f"starts in {found['start_s']:.0f} s")
    if "utterances_per_second" in found:
        parts.append(f"{found['utterances_per_second']:,.1f} utterances/s")
    if "tokens_per_second" in found:
        checkpointed = "again" if found["checkpointing"] else "kept"
        parts.append(f"{found['tokens_per_second']:,.0f} tokens/s, activations {checkpointed}")
        parts.append(f"peak {found['peak_memory_mib']:,.0f} MiB")
    if "operations_per_second" in found:
        rate = found["operations_per_second"]
        share = f", {100 * rate / matrix_rate:.1f}% of the matrix rate" if len(found) > 1 else ""
        parts.append(f"{rate / 1e12:,.2f} TFLOP/s{share}")
    if "labels" in found:
        parts.append(
            f"{found['equal_labels']:.1%} of {found['labels']} labels are transformers', "
            f"probabilities differ by {found['worst_probability']:.3f} at most"
        )
    for each in (found[a.value] for a in RowAttention if a.value in found):
        parts.append(
            f"rows of {each['row_tokens']:,}: {each['examples_per_second']:,.1f} examples/s, "
            f"{each['computed'] / each['examples']:.0f} positions each"
        )
    if found.get("rejects"):
        parts.append(f"{found['rejects']} rejected")
    return "; ".join(parts)


def run_steps(trial: Trial, deadline: float, report: Callable[[str], None]) -> dict[str, Done]:
    """Take the steps that there is time for.

    Args:
        deadline: by the monotonic clock.
    """
    ended: dict[str, Done] = {}
    rate = 0.0
    for name in STEPS:
        begun = time.monotonic()
        report(name)
        ended[name] = _run(name, trial, rate, deadline - begun)
        result = ended[name].result
        if name == "matrix rate" and result is not None:
            rate = result["operations_per_second"]
    return ended


def _run(name: str, trial: Trial, rate: float, left_s: float) -> Done:
    """Take a step in a process of its own, for as long as is left."""
    begun = time.monotonic()
    result = trial.folder / "result.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", __name__ if __name__ != "__main__" else "tests.bench.try_gpu"]
    command += ["step", name, str(trial.folder), "--matrix-rate", str(rate)]
    command += ["--tiny"] if trial.tiny else []
    log = trial.folder / "log"
    if left_s <= 0:
        return Done(0.0, None, "no time was left")
    with log.open("w") as output:
        # A session of its own: what it has started ends with it.
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=output, stderr=output, start_new_session=True
        )
        try:
            status = process.wait(left_s)
        except subprocess.TimeoutExpired:
            _end(process)
            return Done(time.monotonic() - begun, None, f"{log.read_text()}\nno time was left")
    seconds = time.monotonic() - begun
    if status or not result.exists():
        return Done(seconds, None, log.read_text()[-20_000:])
    return Done(seconds, json.loads(result.read_text()))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started."""
    import psutil

    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for each in below:
        if each.is_running():
            each.kill()
    process.wait()


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def step(name: str, folder: Path, matrix_rate: float = 0.0, tiny: bool = False) -> None:
    """Take one step, and leave its result in the folder."""
    found = STEPS[name](Trial(folder, tiny, matrix_rate))
    (folder / "result.json").write_text(json.dumps(found))


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    tiny: Annotated[bool, typer.Option(help="Small sizes, to try the steps on a CPU.")] = False,
    minutes: Annotated[float, typer.Option(min=0.1, help="What all steps may take.")] = 7.5,
    out: Annotated[
        Path | None, typer.Option(help="File of the results; else one in data/results.")
    ] = None,
) -> None:
    """Try a GPU, print a table, and write what was measured as JSON."""
    if context.invoked_subcommand is not None:
        return
    described: Result = describe() | {"date": datetime.now(UTC).date().isoformat()}
    if not (tiny or described["hardware"]["gpus"]):
        typer.echo("try_gpu: there is no GPU here; --tiny takes the steps on a CPU", err=True)
        raise typer.Exit(2)
    deadline = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory(prefix="erc-gpu-") as folder:
        trial = Trial(Path(folder), tiny, 0.0)
        ended = run_steps(trial, deadline, lambda what: typer.echo(f"... {what}", err=True))
    rate = (ended["matrix rate"].result or {}).get("operations_per_second", 1.0)
    rows = [(n, in_words(done, rate), f"{done.seconds:.0f}") for n, done in ended.items()]
    print(markdown(("step", "found", "s"), rows))
    path = out or REPOSITORY / "data" / "results" / f"gpu-{slug(described)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = {name: asdict(done) for name, done in ended.items()}
    path.write_text(json.dumps(described | {"tiny": tiny, "steps": steps}, indent=1) + "\n")
    if failed := {name: done for name, done in ended.items() if done.result is None}:
        for name, done in failed.items():
            typer.echo(f"\n--- {name}:\n{done.error}", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
