"""A service and a Prometheus beside it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.e2e.conftest import Service, environment
from tests.helm.rendering import CHART, NAMESPACE, installation, the
from tests.watching.prometheus import Prometheus, prometheus

RULES = sorted(CHART.glob("rules/*.yaml"))
POD = "erc-0"


@dataclass(frozen=True, slots=True)
class Running:
    """Both, and where the service is."""

    url: str
    server: Prometheus


@contextmanager
def service_and_prometheus(
    folder: Path, interval_s: int, settings: Mapping[str, str]
) -> Iterator[Running]:
    """Start both; the service is scraped before it has anything to do, so that all is seen.

    Its series are labelled as those of the chart in Kubernetes.

    Args:
        folder: where both keep what they keep.
        interval_s: between two scrapes, and two evaluations of the chart's rules.
        settings: variables of the service.

    Raises:
        TimeoutError: Prometheus does not start, or gets no numbers.
    """
    service = Service(folder, environment(folder) | dict(settings))
    service.start()
    name = the(installation("one process, everything on a volume"), "Service")["metadata"]["name"]
    labels = {"namespace": NAMESPACE, "service": name, "job": name, "pod": POD}
    try:
        target = str(httpx.URL(service.url).netloc, "ascii")
        with prometheus(folder, target, labels, RULES, interval_s) as server:
            server.wait("erc_requests_limit")
            yield Running(service.url, server)
    finally:
        service.stop()
