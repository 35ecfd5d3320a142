"""Prometheus' text format, and OpenMetrics, which has exemplars."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

_OPENMETRICS = "application/openmetrics-text"
_END = b"# EOF\n"


@dataclass(frozen=True, slots=True)
class _Family(Collector):
    """One family as a collector, which the library's encoders expect."""

    family: Metric

    def collect(self) -> Iterable[Metric]:
        return (self.family,)


async def exposition(accept: str, *registries: CollectorRegistry) -> tuple[bytes, str]:
    """The metrics of all registries, encoded, and their media type.

    One family at a time, so that other requests run in between: in all it takes ten milliseconds.

    Args:
        accept: the request's `Accept` header.
    """
    encode, media_type = choose_encoder(accept)
    if media_type.startswith(_OPENMETRICS):
        # For a Prometheus before 3 the library's default turns `vllm:x` into `vllm_x`.
        encode = partial(openmetrics.generate_latest, escaping=openmetrics.ALLOWUTF8)
        media_type = openmetrics.CONTENT_TYPE_LATEST
    parts = []
    for family in chain.from_iterable(registry.collect() for registry in registries):
        parts.append(encode(_Family(family)).removesuffix(_END))
        await asyncio.sleep(0)
    if media_type.startswith(_OPENMETRICS):
        parts.append(_END)
    return b"".join(parts), media_type
