"""Stages are told to whoever listens, and to nobody else."""

import asyncio

import pytest

from service.stages import Stage, listening, stage


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
