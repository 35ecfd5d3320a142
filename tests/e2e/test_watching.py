"""What operators see of a running service: numbers, traces and logs, with the real vLLM in them."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from tests.clock import PATIENT_S
from tests.e2e.conftest import Service, environment

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MARK = "xylophone"


@dataclass
class Collector:
    """Takes traces by OTLP over HTTP.

    Attributes:
        spans: those of `TRACE`, by name.
        services: whose they are.
    """

    spans: dict[str, Span] = field(default_factory=dict)
    services: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    whole: bytes = b""

    def take(self, path: str, body: bytes) -> None:
        self.paths.add(path)
        self.whole += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    if span.trace_id.hex() == TRACE:
                        self.services.add(named["service.name"])
                        self.spans[span.name] = span

    def wait(self, name: str) -> None:
        deadline = time.monotonic() + PATIENT_S
        while name not in self.spans:
            assert time.monotonic() < deadline, f"no {name} among {sorted(self.spans)}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    """A collector and its address."""
    spans_received = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            spans_received.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield spans_received, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, collector: tuple[Collector, str]
) -> Iterator[Service]:
    """A service that sends traces and logs JSON."""
    folder = tmp_path_factory.mktemp("watched")
    running = Service(
        folder,
        environment(folder)
        | {
            "ERC_TRACES": "true",
            "ERC_LOG_FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector[1],
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        },
    )
    running.start()
    yield running
    if running.process.poll() is None:
        running.stop()


def say(service: Service, text: str = "We won!", **headers: str) -> None:
    answer = service.client.post(
        f"/dialogues/{MARK}/utterances", json={"speaker": MARK, "text": text}, headers=headers
    )
    assert answer.status_code == 201, answer.text


def test_a_trace_goes_from_the_caller_through_the_stages_into_vllm(
    watched: Service, collector: tuple[Collector, str]
) -> None:
    """One tree, which the caller's span is the root of, and nobody's words are in it."""
    spans_received, _ = collector
    say(watched, f"We won! Said {MARK}.", traceparent=f"00-{TRACE}-{PARENT}-01")
    spans_received.wait("llm_request")
    spans_received.wait("POST /dialogues/{dialogue_id}/utterances")

    request = spans_received.spans["POST /dialogues/{dialogue_id}/utterances"]
    assert request.parent_span_id.hex() == PARENT
    stages = {"admit", "store", "encode", "retrieve", "render", "decode"}
    for name in stages:
        assert spans_received.spans[name].parent_span_id == request.span_id, name
    decode = spans_received.spans["decode"]
    assert spans_received.spans["queue"].parent_span_id == decode.span_id
    assert spans_received.spans["llm_request"].parent_span_id == decode.span_id
    assert set(spans_received.spans) == {request.name, "queue", "llm_request"} | stages
    assert spans_received.services == {"instructerc"}
    assert spans_received.paths == {"/v1/traces"}
    assert MARK.encode() not in spans_received.whole


def test_every_line_of_the_log_is_json(watched: Service) -> None:
    """From the first one on; in vLLM's own process, libraries write as they like."""
    say(watched)

    engines = psutil.Process(watched.process.pid).children(recursive=True)
    theirs = [line for line in watched.output if any(f" {each.pid} " in line for each in engines)]
    lines = [json.loads(line) for line in watched.output if line not in theirs]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, lines))
    assert any("ready at" in line["message"] for line in lines)


def test_the_numbers_of_vllm_are_on_the_page(watched: Service) -> None:
    """Its engine computes in another process; what is counted of it is in this one."""
    say(watched)

    page = watched.client.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(page)}
    for name in (
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:prefix_cache_queries",
        "vllm:prefix_cache_hits",
        "vllm:request_queue_time_seconds",
        "vllm:num_preemptions",
    ):
        assert name in families, name
    (answered,) = (
        sample.value
        for sample in families["vllm:request_queue_time_seconds"].samples
        if sample.name.endswith("_count")
    )
    assert answered >= 1
    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}  # as Prometheus does
    page = watched.client.get("/metrics", headers=accept).text
    others = list(openmetrics_families(page))  # type: ignore[no-untyped-call]
    assert {each.name for each in others} == families.keys()


def test_promtool_finds_no_fault_with_the_page(watched: Service) -> None:
    """With ours and Python's; that vLLM's names have colons is vLLM's affair."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    say(watched)
    page = watched.client.get("/metrics").text

    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )

    faults = (checked.stdout + checked.stderr).splitlines()
    assert [fault for fault in faults if not fault.startswith("vllm:")] == []
    assert "error" not in "".join(faults)


def test_the_stages_add_up_to_the_answer(watched: Service) -> None:
    """What Server-Timing says is most of the time that the client waits, and no more."""
    start = time.perf_counter()
    answer = watched.client.post(
        f"/dialogues/{MARK}/utterances", json={"speaker": "A", "text": "Hi."}
    )
    waited_ms = 1000 * (time.perf_counter() - start)

    told = dict(re.findall(r"(\w+);dur=([0-9.]+)", answer.headers["server-timing"]))
    assert set(told) == {"admit", "store", "encode", "retrieve", "render", "queue", "decode"}
    assert sum(map(float, told.values())) <= waited_ms


def test_the_service_ends_in_time_where_nobody_takes_its_traces(tmp_path: Path) -> None:
    """What cannot be sent is given up."""
    service = Service(
        tmp_path,
        environment(tmp_path)
        | {"ERC_TRACES": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    )
    service.start()
    service.say("call-42", "Ann", "We won!")
    begun = time.monotonic()

    assert service.stop() == 0
    assert time.monotonic() - begun < 30
