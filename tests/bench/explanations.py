"""`python -m tests.bench.explanations`: whether explanations name the words that an answer is of.

Lines of the development splits, with the dialogue before them and the demonstrations that retrieval
finds, are answered and explained by the service's own parts, with vLLM. Then the two words that the
explanation names first are left out of the line, and two random ones.
"""

import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Annotated, Any

import typer
import uvloop

from service.conversation.dialogue import Demonstration, Line, lines_of
from service.conversation.labels import LabelSpace
from service.decoding.engine import LabelEngine, Reading
from service.priority import Priority
from service.recognition.answering import Answerer
from service.recognition.explaining import Explanation, LeftOutWords, explain, without_span
from service.recognition_parts import open_parts
from service.settings import load_settings
from tests.bench.correction_figures import Figure, figures_table, percent
from tests.bench.correction_rows import Spoken
from tests.bench.corrections import read_material
from tests.bench.machine import REPOSITORY, describe

LINES = 200
_LEAST_WORDS = 4  # of fewer, two random ones are too often the two named first
_NAMED = 2
_WANTED = 80.0
_MOST_TURNS = 3.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A line to explain: the last of a dialogue's `lines` so far."""

    label_space: LabelSpace
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """What was measured of one line.

    Attributes:
        words: of the line.
        prompts: of the explanation, about: one for each part, and the whole.
        named, other: how much the probability of the label falls without the two words named first,
            and without two random ones.
        turn_s, explanation_s: seconds of the answer, and of its explanation right after it.
        turn_tokens, explanation_tokens: of prompts, without those that the prefix cache had.
    """

    words: int
    prompts: int
    named: float
    other: float
    turn_s: float
    explanation_s: float
    turn_tokens: int
    explanation_tokens: int


@dataclass
class Counting:
    """A label engine that counts the tokens that it computes, which the cache does not have."""

    engine: LabelEngine
    computed: int = 0

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        reading = await self.engine.read(prompt, candidates, priority, salt=salt)
        self.computed += len(prompt) - (reading.cached_tokens or 0)
        return reading

    async def check(self) -> None:
        await self.engine.check()

    async def close(self) -> None:
        await self.engine.close()


def draw(dialogues: Spoken, spaces: Mapping[str, LabelSpace], seed: int) -> list[Drawn]:
    """Lines of at least four words, as many of each corpus."""
    rng = random.Random(seed)
    drawn = []
    for name, of_corpus in sorted(dialogues.items()):
        of_dialogues = [lines_of(dialogue.utterances) for dialogue in of_corpus]
        long = [
            Drawn(spaces[name], tuple(lines[: index + 1]))
            for lines in of_dialogues
            for index, line in enumerate(lines)
            if len(line.text.split()) >= _LEAST_WORDS
        ]
        drawn += rng.sample(long, LINES // len(dialogues))
    return drawn


async def measure(
    answerer: Answerer, engine: Counting, drawn: Sequence[Drawn], concurrency: int, seed: int
) -> list[Trial]:
    """Answer and explain each line, one after the other, and leave words out of it."""
    rng = random.Random(seed)
    places = asyncio.Semaphore(concurrency)
    trials = []
    for each in drawn:
        # The turn before it is in the cache, as it is where a dialogue is served.
        if len(each.lines) > 1:
            await answerer.recognize(each.lines[:-1], each.label_space)
        began, tokens = perf_counter(), engine.computed
        answer = await answerer.recognize(each.lines, each.label_space)
        answered, turn_tokens = perf_counter(), engine.computed - tokens
        shown = [used.match.demonstration for used in answer.demonstrations if used.shown]
        label = answer.prediction.label.name
        explanation = await explain(answerer, each.lines, each.label_space, label, shown, places)
        explained, explanation_tokens = perf_counter(), engine.computed - tokens - turn_tokens

        named, others = explanation.words[:_NAMED], explanation.words[:_NAMED]
        while set(others) == set(named):
            others = tuple(rng.sample(explanation.words, _NAMED))
        parts = (explanation.words, explanation.lines, explanation.demonstrations)
        trials.append(
            Trial(
                words=len(explanation.words),
                prompts=1 + sum(map(len, parts)),
                named=await _drop(answerer, each, explanation, shown, named),
                other=await _drop(answerer, each, explanation, shown, others),
                turn_s=answered - began,
                explanation_s=explained - answered,
                turn_tokens=turn_tokens,
                explanation_tokens=explanation_tokens,
            )
        )
    return trials


async def _drop(
    answerer: Answerer,
    drawn: Drawn,
    explanation: Explanation,
    shown: Sequence[Demonstration],
    words: Sequence[LeftOutWords],
) -> float:
    """How much the probability of the explained label falls without some words."""
    *history, target = drawn.lines
    text = target.text
    for left_out in sorted(words, key=lambda word: -word.start):
        text = without_span(text, (left_out.start, left_out.end))
    prompt = answerer.recognizer.main_prompt(
        (*history, replace(target, text=text)), drawn.label_space, shown
    )
    prediction = await answerer.recognizer.read_prompt(
        prompt, drawn.label_space, priority=Priority.BATCH
    )
    index = drawn.label_space.names.index(explanation.label)
    return explanation.probability - prediction.probabilities[index]


def figures_of(trials: Sequence[Trial]) -> list[Figure]:
    """The share of lines where the words named first count for more, and the cost."""
    # A turn that was asked before, as the one before another line, is answered from memory.
    fresh = [trial for trial in trials if trial.turn_tokens]
    turn_s = mean(trial.turn_s for trial in fresh)
    explanation_s = mean(trial.explanation_s for trial in fresh)
    return [
        Figure(
            row="1",
            name="lines where the two words named first lower the probability more than two random",
            asked=len(trials),
            value=percent(trial.named > trial.other for trial in trials),
            wanted=_WANTED,
        ),
        Figure(
            row="2",
            name="the mean time of an explanation over that of a turn, a ratio",
            asked=len(fresh),
            value=explanation_s / turn_s,
            wanted=_MOST_TURNS,
            at_least=False,
            note=(
                f"{1000 * explanation_s:.1f} and {1000 * turn_s:.1f} ms; "
                f"{mean(trial.prompts for trial in fresh):.1f} prompts; computed tokens "
                f"{mean(trial.explanation_tokens for trial in fresh):.0f} and "
                f"{mean(trial.turn_tokens for trial in fresh):.0f}"
            ),
        ),
        Figure(
            row="+",
            name="mean fall without the two words named first, in points",
            asked=len(trials),
            value=100 * sum(trial.named for trial in trials) / len(trials),
        ),
        Figure(
            row="+",
            name="mean fall without two random words, in points",
            asked=len(trials),
            value=100 * sum(trial.other for trial in trials) / len(trials),
        ),
    ]


async def run(data: Path, bundle: Path, seed: int) -> list[Trial]:
    """Open the parts of a service and measure with them."""
    material = read_material(data)
    settings = load_settings().model_copy(update={"bundle": bundle})
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        index = Path(folder) / "demonstrations"
        counting: list[Counting] = []

        def counted(engine: LabelEngine) -> LabelEngine:
            counting.append(Counting(engine))
            return counting[0]

        async with open_parts(
            settings, _say, index=index, alone=True, around_engine=counted
        ) as parts:
            answerer = Answerer(parts.recognizer, parts.derived, parts.encoder)
            drawn = draw(material.dev, material.spaces, seed)
            return await measure(answerer, counting[0], drawn, settings.utterance_places // 2, seed)


def main(
    data: Annotated[Path, typer.Option(help="Folder of the corpora, as `data fetch` leaves it.")],
    bundle: Annotated[Path, typer.Option(help="Folder of the model bundle.")] = (
        REPOSITORY / "build" / "bundles" / "erc-mini"
    ),
    seed: Annotated[int, typer.Option(help="Of the lines and words that are drawn.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File of the results, as JSON.")] = None,
) -> None:
    """Explain lines, leave out the words named first, and print each figure beside its bar."""
    described: dict[str, Any] = describe() | {
        "date": datetime.now(UTC).date().isoformat(),
        "options": {"bundle": bundle.name, "seed": seed},
    }
    trials = uvloop.run(run(data, bundle.resolve(), seed))
    figures = figures_of(trials)
    print(figures_table(figures))
    if out is not None:
        lines = [asdict(figure) | {"met": figure.met} for figure in figures]
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(described | {"figures": lines}, indent=1) + "\n")


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
