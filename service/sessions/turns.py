"""One turn at a time in each dialogue, within this process."""

import asyncio
from weakref import WeakValueDictionary


class DialogueLocks:
    """A lock for each dialogue, kept only while somebody holds it or waits for it.

    Taking turns saves the work of labelling an utterance twice. That two processes do not append
    the same index is the store's affair.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def of(self, tenant: str, dialogue_id: str) -> asyncio.Lock:
        """The dialogue's lock, first come, first served: `async with locks.of(...):`."""
        return self._locks.setdefault((tenant, dialogue_id), asyncio.Lock())
