"""Work that is done side by side, of which nothing goes on when a part fails."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, overload

S = TypeVar("S")
T = TypeVar("T")


@overload
async def together(
    one: Coroutine[Any, Any, S], other: Coroutine[Any, Any, T], /
) -> tuple[S, T]: ...
@overload
async def together(*work: Coroutine[Any, Any, T]) -> tuple[T, ...]: ...


async def together(*work: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
    """The results in the order of the work; the first failure ends the rest and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return tuple(task.result() for task in tasks)
