"""Concurrent work that is cancelled as a whole when one part fails."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, overload

S = TypeVar("S")
T = TypeVar("T")


@overload
async def together(
    first: Coroutine[Any, Any, S], second: Coroutine[Any, Any, T], /
) -> tuple[S, T]: ...
@overload
async def together(*work: Coroutine[Any, Any, T]) -> tuple[T, ...]: ...


async def together(*work: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
    """Run coroutines concurrently; the first failure cancels the others and is raised.

    Returns:
        The results, in the order of `work`.
    """
    with first_failure():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
    return tuple(task.result() for task in tasks)


@contextmanager
def first_failure(rather: type[Exception] = Exception) -> Iterator[None]:
    """Raise the first failure of the task group in the block instead of the group.

    Args:
        rather: the preferred error type, if there is a failure of it.
    """
    try:
        yield
    except ExceptionGroup as failures:
        raise (failures.subgroup(rather) or failures).exceptions[0] from None
