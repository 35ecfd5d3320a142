"""Demonstrations for a text: encode it, ask the store."""

from dataclasses import dataclass

from service.demonstrations.encoder import Encoder
from service.demonstrations.store import DemonstrationStore, Match
from service.priority import Priority
from service.stages import Stage, stage


@dataclass(frozen=True, slots=True)
class NearestDemonstrations:
    """The nearest demonstrations of a label space, whatever their label."""

    encoder: Encoder
    store: DemonstrationStore

    async def nearest(
        self, text: str, label_space: str, count: int, tenant: str | None, priority: Priority
    ) -> list[Match]:
        """The `count` demonstrations nearest to a text, best first: shared, or the tenant's own.

        Raises:
            DemonstrationsUnavailable: the encoder or the store does not answer.
        """
        with stage(Stage.ENCODE):
            vector = await self.encoder.encode(text, priority)
        with stage(Stage.RETRIEVE):
            return await self.store.nearest(vector, label_space, count, tenant)
