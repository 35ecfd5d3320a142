"""Concurrent work of one process: tasks that end together, locks by name, and the loop's clock."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, overload
from weakref import WeakValueDictionary

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


async def in_thread(call: Callable[[], T], places: asyncio.Semaphore) -> T:
    """Call a function in a thread, once there is a place for it.

    A thread cannot be cancelled: it keeps its place to its end, even if its caller is cancelled.
    """
    await places.acquire()
    try:
        done = asyncio.get_running_loop().run_in_executor(None, call)
    except BaseException:
        places.release()
        raise
    done.add_done_callback(lambda _: places.release())
    return await asyncio.shield(done)


class NamedLocks:
    """A lock per tenant and name, which exists only while a task holds it or waits for it.

    They only save duplicate work: the store ensures that two processes do not append at the same
    index or respond to the same key.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def of(self, tenant: str, name: str) -> asyncio.Lock:
        """The name's lock, first come, first served: `async with locks.of(...):`."""
        return self._locks.setdefault((tenant, name), asyncio.Lock())


def loop_time() -> float:
    """The clock of the running event loop, in seconds; its zero is undefined."""
    return asyncio.get_running_loop().time()
