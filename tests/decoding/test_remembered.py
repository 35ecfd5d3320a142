"""What was asked before is answered as it was then."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from service.decoding.engine import Reading
from service.decoding.remembered import RememberedEngine
from service.errors import EngineUnavailable
from service.priority import Priority


@dataclass(slots=True)
class Drifting:
    """An engine that says something else each time."""

    asked: list[tuple[int, ...]] = field(default_factory=list)
    fails: bool = False

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        if self.fails:
            raise EngineUnavailable("away")
        self.asked.append(tuple(prompt))
        return Reading((-1.0 - 0.001 * len(self.asked),) * len(candidates), 0, 0.25)

    async def check(self) -> None:
        if self.fails:
            raise EngineUnavailable("away")

    async def close(self) -> None: ...


async def ask(
    engine: RememberedEngine,
    prompt: Sequence[int] = (1, 2),
    candidates: Sequence[int] = (7, 8),
    salt: str | None = "one",
) -> Reading:
    return await engine.read(prompt, candidates, Priority.INTERACTIVE, salt=salt)


async def test_the_same_question_has_the_same_answer() -> None:
    """To the last digit; all of the prompt counts as cached, and nobody waited for it."""
    drifting = Drifting()
    engine = RememberedEngine(drifting)

    first, again = await ask(engine), await ask(engine)

    assert again.log_probabilities == first.log_probabilities
    assert (again.cached_tokens, again.queue_s) == (2, 0.0)
    assert len(drifting.asked) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": (1, 2, 3)},
        {"prompt": (1,), "candidates": (2, 7, 8)},
        {"candidates": (8, 7)},
        {"salt": "two"},
        {"salt": ""},
        {"salt": None},
    ],
)
async def test_another_question_or_another_tenants_is_asked(other: dict[str, object]) -> None:
    """Nobody is answered faster because another one has said the same."""
    drifting = Drifting()
    engine = RememberedEngine(drifting)

    first = await ask(engine)
    scores = await ask(engine, **other)  # type: ignore[arg-type]

    assert len(drifting.asked) == 2
    assert scores.log_probabilities[0] != first.log_probabilities[0]


async def test_what_was_asked_last_is_kept() -> None:
    """And what was asked for longest ago is forgotten."""
    drifting = Drifting()
    engine = RememberedEngine(drifting, room=2)

    for prompt in ((1,), (2,), (1,), (3,), (1,), (2,)):
        await ask(engine, prompt)

    assert drifting.asked == [(1,), (2,), (3,), (2,)]


async def test_an_engine_that_does_not_work_answers_nobody() -> None:
    """Else some would be answered, and others not."""
    drifting = Drifting()
    engine = RememberedEngine(drifting)
    await ask(engine)
    drifting.fails = True

    with pytest.raises(EngineUnavailable):
        await ask(engine)


async def test_a_failure_and_a_broken_off_question_are_not_kept() -> None:
    """The next one who asks is answered."""
    drifting = Drifting(fails=True)
    engine = RememberedEngine(drifting)
    with pytest.raises(EngineUnavailable):
        await ask(engine)
    task = asyncio.create_task(ask(engine))
    task.cancel()
    drifting.fails = False

    assert (await ask(engine)).queue_s == 0.25
