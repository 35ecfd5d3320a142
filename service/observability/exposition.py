"""Numbers as Prometheus reads them: its text format, or OpenMetrics, which has exemplars too."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

_OPENMETRICS = "application/openmetrics-text"
_END = b"# EOF\n"


@dataclass(frozen=True, slots=True)
class _Family(Collector):
    """One family as a collector, which is what the library writes out."""

    family: Metric

    def collect(self) -> Iterable[Metric]:
        return (self.family,)


async def exposition(accept: str, *registries: CollectorRegistry) -> tuple[bytes, str]:
    """Everything in some registries, and its media type.

    A family at a time, so that others are answered in between: all of it takes ten milliseconds.

    Args:
        accept: the request's header.
    """
    encode, media_type = choose_encoder(accept)
    parts = []
    for family in chain.from_iterable(registry.collect() for registry in registries):
        parts.append(encode(_Family(family)).removesuffix(_END))
        await asyncio.sleep(0)
    if media_type.startswith(_OPENMETRICS):
        parts.append(_END)
    return b"".join(parts), media_type
