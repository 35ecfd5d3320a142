"""Waits until an embedded index has no work left."""

from service.demonstrations.qdrant_edge.store import EdgeStore


async def settle(store: EdgeStore) -> None:
    """Return when the graphs hold everything added, and the files nothing deleted.

    Raises:
        DemonstrationsUnavailable: the files cannot be rewritten now.
    """
    await store._renewal.renewed()
    await store._renewal.clean()
