"""What vLLM answers, held against transformers on the same weights."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, PreTrainedModel

from service.conversation.dialogue import Demonstration, Line
from service.conversation.labels import Label, LabelSpace, load_label_spaces
from service.conversation.prompts.tokens import fit
from service.decoding.bundle import load_bundle
from service.decoding.engine import Reading
from service.decoding.in_process import EngineOptions, InProcessEngine, start_engine
from service.decoding.precision import EngineType
from service.decoding.scoring import plan_reading, score_labels
from service.decoding.tokenizer import load_tokenizer
from service.errors import EngineUnavailable
from service.priority import Priority

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLE = REPOSITORY / "build" / "bundles" / "erc-mini"
LABEL_SPACES = load_label_spaces(REPOSITORY / "data" / "label_spaces")
TOKENIZER = load_tokenizer(BUNDLE)
# Of a label's probability, by what vLLM computes in: at most, and on average.
WORST: dict[EngineType, float] = {"bfloat16": 0.06, "float32": 1e-3}
MEAN: dict[EngineType, float] = {"bfloat16": 0.005, "float32": 1e-4}
# Of a token's log-probability, between reading all of a prompt and the end of it.
CACHED: dict[EngineType, float] = {"bfloat16": 0.2, "float32": 1e-3}


def sockets_in(folder: str) -> list[Path]:
    return [path for path in Path(folder).rglob("*") if path.is_socket()]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InProcessEngine]:
    """Started as on a machine that has no C++ compiler, and nothing that one has compiled.

    Closed, it leaves no sockets in the folder of temporary files.
    """
    bundle = load_bundle(BUNDLE, LABEL_SPACES)
    with TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", temporary)
        patch.setenv("CXX", "no-compiler")
        patch.setenv("VLLM_CACHE_ROOT", str(tmp_path_factory.mktemp("vllm")))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        started = await start_engine(BUNDLE, max_tokens=bundle.max_tokens, options=EngineOptions())
        assert sockets_in(temporary)
        yield started
        await started.close()
        assert sockets_in(temporary) == []


@pytest.fixture(scope="module")
def reference() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(BUNDLE, dtype=torch.float32).eval()


def prompts(count: int) -> list[tuple[LabelSpace, list[int]]]:
    """Prompts of dialogues that are drawn from the shipped demonstrations, seed 7."""
    bundle = load_bundle(BUNDLE, LABEL_SPACES)
    rows = map(json.loads, (REPOSITORY / "data" / "demonstrations.jsonl").open(encoding="utf-8"))
    shipped = [Demonstration(**row) for row in rows]
    random = Random(7)
    made = []
    for n in range(count):
        space = LABEL_SPACES[list(bundle.label_spaces)[n % len(bundle.label_spaces)]]
        lines = [
            Line(random.randrange(3), random.choice(shipped).text)
            for _ in range(random.randint(1, 15))
        ]
        shown = random.sample([d for d in shipped if d.label_space == space.name], n % 3)
        prompt = fit(
            bundle.prompt_template,
            space,
            bundle.history_window,
            lines,
            shown,
            encode=TOKENIZER.encode,
            starts=TOKENIZER.starts,
            begin=TOKENIZER.begin,
            limit=bundle.max_tokens - 1,
        )
        made.append((space, prompt.ids))
    return made


def log_probabilities(model: PreTrainedModel, ids: Sequence[int]) -> torch.Tensor:
    """The next token's, over the whole vocabulary."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([list(ids)])).logits[0, -1]
    return torch.log_softmax(logits.float(), -1)


async def distributions(
    engine: InProcessEngine, questions: Sequence[tuple[LabelSpace, list[int]]]
) -> list[NDArray[np.float64]]:
    """Over the labels of each prompt, without calibration."""
    template = load_bundle(BUNDLE, LABEL_SPACES).prompt_template
    plans = {
        space.name: plan_reading(space, template, TOKENIZER.encode, TOKENIZER.end)
        for space, _ in questions
    }
    answers = await asyncio.gather(
        *(score_labels(engine, plans[s.name], ids, Priority.INTERACTIVE) for s, ids in questions)
    )
    likely = [np.exp(scores.log_probabilities) for scores in answers]
    return [one / one.sum() for one in likely]


@pytest.mark.asyncio(loop_scope="module")
async def test_vllm_and_transformers_give_the_same_distribution(
    engine: InProcessEngine, reference: PreTrainedModel
) -> None:
    """200 prompts, vLLM in what the machine multiplies, but for its head, against float32."""
    bundle = load_bundle(BUNDLE, LABEL_SPACES)
    questions = prompts(200)
    same, differences = [], []
    for (space, ids), ours in zip(questions, await distributions(engine, questions), strict=True):
        reading = plan_reading(space, bundle.prompt_template, TOKENIZER.encode, TOKENIZER.end)
        first = [path[0][1] for path in reading.paths]
        theirs = log_probabilities(reference, ids)[first].exp().numpy()
        same.append(ours.argmax() == theirs.argmax())
        differences.append(np.abs(ours - theirs / theirs.sum()).max())

    assert np.mean(same) >= 0.99
    assert max(differences) <= WORST[engine.dtype]
    assert np.mean(differences) <= MEAN[engine.dtype]


@pytest.mark.asyncio(loop_scope="module")
async def test_labels_are_the_same_in_bfloat16_and_in_float32(
    engine: InProcessEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least 99.5% of 400: a machine decides how fast an answer is, not which one."""
    questions = prompts(400)
    # Where it has AMX and oneDNN may not use it, vLLM's engine dies of bfloat16.
    for limit in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(limit, raising=False)
    dtype: EngineType = "float32" if engine.dtype == "bfloat16" else "bfloat16"
    longest = load_bundle(BUNDLE, LABEL_SPACES).max_tokens
    other = await start_engine(BUNDLE, max_tokens=longest, options=EngineOptions(dtype=dtype))
    try:
        theirs = await distributions(other, questions)
    finally:
        await other.close()
    ours = await distributions(engine, questions)

    same = [one.argmax() == two.argmax() for one, two in zip(ours, theirs, strict=True)]
    gaps = [np.abs(one - two).max() for one, two in zip(ours, theirs, strict=True)]
    assert np.mean(same) >= 0.995
    # They did compute in two types.
    assert WORST["float32"] < max(gaps) <= WORST["bfloat16"]


@pytest.mark.asyncio(loop_scope="module")
async def test_verbalizers_that_begin_alike_are_scored_whole(
    engine: InProcessEngine, reference: PreTrainedModel
) -> None:
    """ "joyful" and "joyfully" share their first tokens; each scores the product of all of its."""
    template = load_bundle(BUNDLE, LABEL_SPACES).prompt_template
    words = ("joyful", "joyfully", "sad")
    space = LabelSpace("made", "Made up", tuple(Label(w, w, "joyful") for w in words))
    reading = plan_reading(space, template, TOKENIZER.encode, TOKENIZER.end)
    _, ids = prompts(1)[0]

    scores = await score_labels(engine, reading, ids, Priority.INTERACTIVE)

    assert len(reading.questions) > 1
    for path, score in zip(reading.paths, scores.log_probabilities, strict=True):
        expected = sum(
            float(log_probabilities(reference, [*ids, *before])[token]) for before, token in path
        )
        assert math.exp(score) == pytest.approx(math.exp(expected), abs=WORST[engine.dtype])
    assert sum(map(math.exp, scores.log_probabilities)) <= 1 + 1e-3


@pytest.mark.asyncio(loop_scope="module")
async def test_a_prompt_that_was_read_before_comes_from_the_cache(engine: InProcessEngine) -> None:
    """All whole blocks but the last are found again, and the answer stays the same."""
    ids = [*TOKENIZER.begin, *range(2000, 2200)]

    first = await engine.read(ids, [2001, 2002], Priority.INTERACTIVE)
    second = await engine.read(ids, [2001, 2002], Priority.BATCH)

    assert first.cached_tokens == 0
    assert (second.cached_tokens or 0) >= len(ids) - 2 * 32
    assert second.log_probabilities == pytest.approx(
        first.log_probabilities, abs=CACHED[engine.dtype]
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_a_prompt_that_another_tenant_has_had_read_is_not_in_the_cache(
    engine: InProcessEngine,
) -> None:
    """Nobody learns from the time or the count what others say; the answer is the same."""
    ids = [*TOKENIZER.begin, *range(3000, 3200)]

    async def read(salt: str | None) -> Reading:
        return await engine.read(ids, [2001, 2002], Priority.INTERACTIVE, salt=salt)

    first = await read("one")
    others = [await read(salt) for salt in ("two", None, "on", "one ")]
    again = await read("one")

    assert [each.cached_tokens for each in (first, *others)] == [0] * 5
    assert (again.cached_tokens or 0) >= len(ids) - 2 * 32
    for each in (*others, again):
        assert each.log_probabilities == pytest.approx(
            first.log_probabilities, abs=CACHED[engine.dtype]
        )


class Scripted:
    """Stands in for vLLM, which cannot be had fail on command."""

    errored = False

    def __init__(self, *answers: Exception | dict[int, float]) -> None:
        self._answers = list(answers)

    async def generate(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        logprobs = {token: SimpleNamespace(logprob=value) for token, value in answer.items()}
        output = SimpleNamespace(logprobs=[logprobs])
        yield SimpleNamespace(outputs=[output], num_cached_tokens=None, metrics=None)


async def test_a_failure_of_vllm_is_ours_and_logged_once_with_its_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Anew, once it has answered meanwhile."""
    llm: Any = Scripted(ValueError("dead"), ValueError("dead"), {1: -0.5}, ValueError("dead"))
    engine = InProcessEngine(llm, "float32")

    for fails in (True, True, False, True):
        with pytest.raises(EngineUnavailable) if fails else nullcontext():
            await engine.read([1], [1], Priority.BATCH)

    told = [record.message for record in caplog.records]
    assert told == ["the label engine fails: ValueError: dead"] * 2


async def test_a_mistake_of_ours_is_not_taken_for_a_failure_of_vllm() -> None:
    """Here an answer without the token that was asked for."""
    llm: Any = Scripted({1: -0.5})

    with pytest.raises(KeyError):
        await InProcessEngine(llm, "float32").read([1], [2], Priority.BATCH)


async def test_a_folder_without_a_model_does_not_start(tmp_path: Path) -> None:
    """No library's error leaves the adapter."""
    with pytest.raises(EngineUnavailable, match=str(tmp_path)):
        await start_engine(tmp_path, max_tokens=64, options=EngineOptions())
