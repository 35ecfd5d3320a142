"""Waits until an embedded index has no work left."""

from service.demonstrations.qdrant_edge import EdgeStore


async def settle(store: EdgeStore) -> None:
    """Return when the graphs hold everything added, and the files nothing deleted.

    Raises:
        DemonstrationsUnavailable: the files cannot be rewritten now.
    """
    await store._renewed()
    await store._clean()
