"""The numbers of a running service, as Prometheus reads them."""

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from tests.api.conftest import Service


Labels = frozenset[tuple[str, str]]


async def numbers(service: "Service") -> dict[tuple[str, Labels], float]:
    """What /metrics says, by name and labels."""
    answer = await service.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def at(name: str, /, **labels: str) -> tuple[str, Labels]:
    return name, frozenset(labels.items())
