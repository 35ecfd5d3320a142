"""Whether speed costs answers: the labels of the fast path against those of the plain one.

The fast path is the service's engine as the service runs it: in what the machine multiplies,
bfloat16 or float32, with its prefix cache, many prompts in a step. The plain one is transformers in
float32, one prompt at a time, no cache. Both read the same prompts, with the service's
demonstrations.
"""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import uvloop

from service.conversation.calibration import Calibration
from service.conversation.dialogue import Dialogue
from service.conversation.labels import LabelSpace
from service.conversation.prediction import Prediction, prediction_from_scores
from service.decoding.engine import LabelEngine, Reading
from service.decoding.scoring import LabelReading, plan_reading, score_labels
from service.decoding.tokenizer import load_tokenizer
from service.priority import Priority
from tests.bench.prompts import record_prompts
from tests.bench.rows.engine import start_like_the_service
from tests.bench.setup import Setup
from tests.bench.turns import Turn, in_waves

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ENOUGH = 0.995
_PLACES = 256

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Difference:
    """An utterance that the paths label differently.

    Attributes:
        margin: how much more probable, on the plain path, its label is than the fast path's.
    """

    fast: str
    plain: str
    margin: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two paths agree on the utterances of one label space.

    Attributes:
        differences: the widest margin first.
        worst, mean: difference of a label's probability, over all labels and utterances.
    """

    label_space: str
    utterances: int
    differences: tuple[Difference, ...]
    worst: float
    mean: float

    @property
    def equal_share(self) -> float:
        return 1 - len(self.differences) / self.utterances


def compare(fast: Sequence[Prediction], plain: Sequence[Prediction]) -> Agreement:
    """Compare predictions of the same utterances in one label space.

    Raises:
        ValueError: there are none, or not equally many.
    """
    if not fast or len(fast) != len(plain):
        raise ValueError(f"{len(fast)} predictions of one path, {len(plain)} of the other")
    space = fast[0].label_space
    differences = []
    for one, other in zip(fast, plain, strict=True):
        if one.label.name != other.label.name:
            probability = other.probabilities[list(space.labels).index(one.label)]
            differences.append(
                Difference(one.label.name, other.label.name, other.confidence - probability)
            )
    gaps = np.abs(
        np.asarray([p.probabilities for p in fast]) - np.asarray([p.probabilities for p in plain])
    )
    return Agreement(
        space.name,
        len(fast),
        tuple(sorted(differences, key=lambda d: d.margin, reverse=True)),
        float(gaps.max()),
        float(gaps.mean()),
    )


def equal_share(agreements: Sequence[Agreement]) -> float:
    """Of the labels of all utterances."""
    different = sum(len(agreement.differences) for agreement in agreements)
    return 1 - different / sum(agreement.utterances for agreement in agreements)


def described(agreement: Agreement) -> str:
    """In words, with every difference."""
    lines = [
        f"{agreement.label_space}: {agreement.equal_share:.2%} of {agreement.utterances:,} labels "
        f"equal; probabilities differ by {agreement.mean:.5f} on average, {agreement.worst:.4f} "
        "at worst"
    ]
    lines += [
        f"  {d.plain} on the plain path, {d.fast} on the fast one: {d.margin:.4f} apart"
        for d in agreement.differences
    ]
    return "\n".join(lines)


def measure(
    setup: Setup,
    spoken: Sequence[tuple[Sequence[Dialogue], LabelSpace]],
    *,
    demonstrations: bool,
    report: Report,
) -> list[Agreement]:
    """Read dialogues, each set in its label space, on both paths."""
    report("recording the service's prompts")
    with tempfile.TemporaryDirectory(dir=setup.folder) as index:
        recorded = asyncio.run(
            record_prompts(Path(setup.bundle), spoken, Path(index), demonstrations=demonstrations)
        )
    batches = [(in_waves(turns), space) for turns, (_, space) in zip(recorded, spoken, strict=True)]
    report("reading them on the fast path")
    fast = uvloop.run(_fast(setup, batches))
    report("reading them on the plain path")
    plain = asyncio.run(predictions(setup, plain_engine(Path(setup.bundle)), batches, places=1))
    return [compare(one, other) for one, other in zip(fast, plain, strict=True)]


async def _fast(
    setup: Setup, batches: Sequence[tuple[Sequence[Turn], LabelSpace]]
) -> list[list[Prediction]]:
    engine = await start_like_the_service(setup)
    try:
        return await predictions(setup, engine, batches, _PLACES)
    finally:
        await engine.close()


async def predictions(
    setup: Setup,
    engine: LabelEngine,
    batches: Sequence[tuple[Sequence[Turn], LabelSpace]],
    places: int,
) -> list[list[Prediction]]:
    bundle, _ = setup.load_bundle()
    tokenizer = load_tokenizer(Path(setup.bundle))
    room = asyncio.Semaphore(places)
    predictions = []
    for turns, space in batches:
        reading = plan_reading(space, bundle.prompt_template, tokenizer.encode, tokenizer.end)
        calibration = bundle.label_spaces[space.name].calibration()

        async def predict(
            turn: Turn,
            reading: LabelReading = reading,
            space: LabelSpace = space,
            calibration: Calibration = calibration,
        ) -> Prediction:
            async with room:
                # A turn's first read is of the prompt as it is.
                scores = await score_labels(engine, reading, turn[0].prompt, Priority.BATCH)
            return prediction_from_scores(space, scores.log_probabilities, calibration)

        predictions.append(list(await asyncio.gather(*map(predict, turns))))
    return predictions


@dataclass(frozen=True, slots=True)
class PlainEngine:
    """A label engine on transformers: one forward pass over the whole prompt for each reading."""

    model: "PreTrainedModel"

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        import torch

        ids = torch.tensor([list(prompt)], device=self.model.device)
        with torch.inference_mode():
            logits = self.model(ids, use_cache=False, logits_to_keep=1).logits[0, -1]
        log_probabilities = torch.log_softmax(logits.double(), dim=-1)
        return Reading(tuple(log_probabilities[list(candidates)].tolist()), 0)

    async def check(self) -> None: ...

    async def close(self) -> None: ...


def plain_engine(bundle: Path) -> PlainEngine:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(bundle, dtype=torch.float32, local_files_only=True)
    return PlainEngine(model.to("cuda" if torch.cuda.is_available() else "cpu").eval())
