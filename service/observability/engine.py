"""A label engine that counts prompt tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.decoding.engine import LabelEngine, Reading
from service.observability.metrics import Metrics
from service.priority import Priority


@dataclass(frozen=True, slots=True)
class CountedEngine:
    """Passes everything on to another engine, and counts the prompt tokens that it reads."""

    engine: LabelEngine
    metrics: Metrics

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        reading = await self.engine.read(prompt, candidates, priority, salt=salt)
        self.metrics.prompt_tokens.inc(len(prompt))
        if reading.cached_tokens is not None:
            self.metrics.cached_tokens.inc(reading.cached_tokens)
        return reading

    async def check(self) -> None:
        await self.engine.check()

    async def close(self) -> None:
        await self.engine.close()
