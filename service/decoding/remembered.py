"""A label engine that answers a repeated prompt from memory, to the last digit.

vLLM's results for a prompt differ in the last digits with the other prompts in a step and with how
much of the prompt was cached. So a repeated prompt, as when a correction is removed, is answered
from memory: identically and at once, as long as the engine works.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from service.decoding.engine import LabelEngine, Reading
from service.priority import Priority

# The number of most recently used readings that are kept; some hundred bytes each.
ROOM = 8192


@dataclass(frozen=True, slots=True)
class RememberedEngine:
    """Passes prompts on to another engine unless it has their readings in memory."""

    engine: LabelEngine
    room: int = ROOM
    _answers: OrderedDict[bytes, Reading] = field(default_factory=OrderedDict)

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        key = _key(prompt, candidates, salt)
        remembered = self._answers.get(key)
        if remembered is not None:
            await self.engine.check()  # an engine that fails answers nothing, not even from memory
            self._answers.move_to_end(key)
            return remembered
        reading = await self.engine.read(prompt, candidates, priority, salt=salt)
        # An answer from memory does not wait, and counts all of its tokens as cached.
        self._answers[key] = replace(reading, cached_tokens=len(prompt), queue_s=0.0)
        if len(self._answers) > self.room:
            self._answers.popitem(last=False)
        return reading

    async def check(self) -> None:
        await self.engine.check()

    async def close(self) -> None:
        await self.engine.close()


def _key(prompt: Sequence[int], candidates: Sequence[int], salt: str | None) -> bytes:
    """A keyed hash of prompt, candidates and salt; it does not reveal the text."""
    whose = hashlib.sha256(b"" if salt is None else b"\0" + salt.encode()).digest()
    numbers = array("q", (len(prompt), *prompt, *candidates)).tobytes()
    return hashlib.blake2b(numbers, digest_size=16, key=whose).digest()
