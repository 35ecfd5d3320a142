"""Demonstrations for a text: encode it, ask the store."""

from dataclasses import dataclass

from service.demonstrations.encoder import Encoder
from service.demonstrations.store import DemonstrationStore, Match


@dataclass(frozen=True, slots=True)
class NearestDemonstrations:
    """The nearest demonstrations of a label space, whatever their label."""

    encoder: Encoder
    store: DemonstrationStore

    async def nearest(self, text: str, label_space: str, count: int) -> list[Match]:
        """The `count` demonstrations nearest to a text, best first.

        Raises:
            DemonstrationsUnavailable: the encoder or the store does not answer.
        """
        return await self.store.nearest(await self.encoder.encode(text), label_space, count)
