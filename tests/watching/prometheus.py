"""A Prometheus of one's own, which scrapes a service."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

# Debian's, or a release from prometheus.io.
BINARY = shutil.which("prometheus")

Labels = Mapping[str, str]
Point = tuple[float, float]  # seconds since 1970, value

_START_S = 30.0


class Refused(Exception):
    """An expression is none; the message is Prometheus's."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server."""

    client: httpx.Client

    def ask(self, expression: str, at: float | None = None) -> list[tuple[Labels, float]]:
        """The series that an expression comes to, and their values.

        Args:
            at: seconds since 1970; None: now.

        Raises:
            Refused: the expression is none.
        """
        query = {"query": expression} | ({} if at is None else {"time": str(at)})
        answer = self._answer("/api/v1/query", query)
        if answer["resultType"] == "scalar":
            return [({}, float(answer["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in answer["result"]]

    def ask_range(
        self, expression: str, start: float, end: float, step_s: float
    ) -> list[tuple[Labels, list[Point]]]:
        """The same for many moments.

        Raises:
            Refused: the expression is none.
        """
        query = {"query": expression, "start": str(start), "end": str(end), "step": str(step_s)}
        return [
            (series["metric"], [(float(at), float(value)) for at, value in series["values"]])
            for series in self._answer("/api/v1/query_range", query)["result"]
        ]

    def wait(self, expression: str) -> None:
        """Until an expression comes to something.

        Raises:
            TimeoutError: it does not.
        """
        deadline = time.monotonic() + _START_S
        while not self.ask(expression):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing for {expression}")
            time.sleep(0.2)

    def _answer(self, path: str, parameters: Mapping[str, str]) -> Any:
        answer = self.client.post(path, data=parameters)
        body = answer.json()
        if body["status"] != "success":
            raise Refused(f"{body['error']}: {parameters['query']}")
        return body["data"]


@contextmanager
def prometheus(
    folder: Path, target: str, labels: Labels, rules: Sequence[Path], interval_s: int
) -> Iterator[Prometheus]:
    """Start the server, which ends on leaving.

    Args:
        folder: where it keeps what it scrapes.
        target: host and port of the service.
        labels: of all its series, as Kubernetes would give them.
        interval_s: between two scrapes, and two evaluations of the rules.

    Raises:
        TimeoutError: it does not start.
    """
    assert BINARY is not None
    every = f"{interval_s}s"
    configuration = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {
                "job_name": labels["job"],
                "static_configs": [{"targets": [target], "labels": dict(labels)}],
            }
        ],
    }
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(configuration), "utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        BINARY,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'series'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    log = folder / "prometheus.log"
    with (
        log.open("wb") as output,
        httpx.Client(base_url=f"http://{address}", timeout=60) as client,
    ):
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(client, process, log)
            yield Prometheus(client)
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_ready(client: httpx.Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/-/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"Prometheus did not start:\n{log.read_text()}")
