"""Stages are told to whoever listens, and to nobody else."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.tracing import NoteBeginning, Stage, Trace, listening, stage, traced


class Heard(list[tuple[Stage, float]]):
    def __call__(self, name: Stage, seconds: float) -> None:
        self.append((name, seconds))


def test_listener_is_told_each_stage_when_it_ends() -> None:
    heard = Heard()
    with listening(heard):
        with stage(Stage.RENDER):
            assert not heard
        with stage(Stage.DECODE):
            pass

    assert [name for name, _ in heard] == ["render", "decode"]
    assert all(seconds >= 0 for _, seconds in heard)


def test_a_stage_that_fails_is_told_too_and_fails_on() -> None:
    heard = Heard()
    with listening(heard), pytest.raises(ValueError, match="nonsense"), stage(Stage.ENCODE):
        raise ValueError("nonsense")

    assert [name for name, _ in heard] == ["encode"]


def test_nobody_listens_outside_the_block() -> None:
    heard = Heard()
    with listening(heard):
        pass
    with stage(Stage.STORE):
        pass

    assert not heard


async def test_tasks_are_heard_by_the_listener_they_were_started_under() -> None:
    """Requests run side by side; none hears the other's stages, each its tasks'."""

    async def one(heard: Heard, name: Stage) -> None:
        async def part() -> None:
            with stage(name):
                await asyncio.sleep(0)

        with listening(heard):
            await asyncio.gather(part(), part())

    first, second = Heard(), Heard()
    await asyncio.gather(one(first, Stage.STORE), one(second, Stage.DECODE))

    assert [name for name, _ in first] == ["store", "store"]
    assert [name for name, _ in second] == ["decode", "decode"]


def test_what_a_stage_began_with_is_told_as_its_own() -> None:
    """The seconds add up: the stage has what is left."""
    heard = Heard()
    with listening(heard), stage(Stage.DECODE) as decoding:
        time.sleep(0.02)
        decoding.began_with(Stage.QUEUE, 0.015)

    (first, waited), (then, decoded) = heard
    assert (first, then) == ("queue", "decode")
    assert waited == 0.015
    assert decoded >= 0.005


def test_no_stage_takes_less_than_no_time() -> None:
    """Two processes' clocks need not agree to the microsecond."""
    heard = Heard()
    with listening(heard), stage(Stage.DECODE) as decoding:
        decoding.began_with(Stage.QUEUE, 1.0)

    assert heard == [("queue", 1.0), ("decode", 0.0)]


def test_a_stage_of_what_is_traced_is_a_span() -> None:
    """It is open for as long as the stage, and knows what the stage began with."""
    told: list[object] = []

    @contextmanager
    def open_span(name: str) -> Iterator[NoteBeginning]:
        told.append(f"{name} begins")
        yield lambda other, seconds: told.append((other, seconds))
        told.append(f"{name} ends")

    with traced(Trace("1" * 32, "2" * 16, dict, open_span)), stage(Stage.DECODE) as decoding:
        told.append("work")
        decoding.began_with(Stage.QUEUE, 0.5)

    assert told == ["decode begins", "work", ("queue", 0.5), "decode ends"]


def test_a_trace_that_is_only_handed_on_has_no_spans() -> None:
    """Nobody looks at them."""
    heard = Heard()
    with traced(Trace("1" * 32, "2" * 16, dict, None)), listening(heard), stage(Stage.STORE):
        pass

    assert [name for name, _ in heard] == ["store"]
