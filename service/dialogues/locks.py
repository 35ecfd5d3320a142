"""Locks within this process: one turn of a dialogue, one request of a key at a time."""

import asyncio
from weakref import WeakValueDictionary


class NamedLocks:
    """A lock for each name of each tenant, kept only while somebody holds it or waits for it.

    Taking turns saves the work of labelling an utterance twice. That two processes do not append
    the same index, or answer the same key, is the store's affair.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def of(self, tenant: str, name: str) -> asyncio.Lock:
        """The name's lock, first come, first served: `async with locks.of(...):`."""
        return self._locks.setdefault((tenant, name), asyncio.Lock())
