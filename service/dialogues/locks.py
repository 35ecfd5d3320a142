"""Locks within this process: one turn per dialogue, one request per key at a time."""

import asyncio
from weakref import WeakValueDictionary


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
