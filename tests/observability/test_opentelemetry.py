"""What OpenTelemetry's own variables say of traces, and what traces cost where there are none."""

import asyncio
import socket
import subprocess
import sys

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.observability import opentelemetry as tracing
from service.observability.correlation import Correlation
from service.observability.opentelemetry import Traces
from service.tracing import current_exemplar, current_trace
from tests.clock import Clock


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Takes spans; none of the variables is set."""
    for name in (
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_TRACES_SAMPLER",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    ):
        monkeypatch.setenv(name, "")  # to be put back as it was, whoever sets it meanwhile
        monkeypatch.delenv(name)
    return InMemorySpanExporter()


def new_traces(exporter: InMemorySpanExporter) -> Traces:
    return Traces(SimpleSpanProcessor(exporter), "1.2.3", Correlation(None))


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({}, "http://localhost:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c/otlp/"}, "http://c/otlp/v1/traces"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:1/x",
            },
            "http://t:1/x",
        ),
    ],
)
def test_vllm_sends_where_the_exporter_does(
    exporter: InMemorySpanExporter,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    endpoint: str,
) -> None:
    """It has to be told: it reads one of the variables only."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert new_traces(exporter).endpoint == endpoint
    assert OTLPSpanExporter()._endpoint == endpoint


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "instructerc"),
        ({"OTEL_SERVICE_NAME": "ours"}, "ours"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=ours,a=b"}, "ours"),
    ],
)
def test_the_service_has_a_name_unless_it_is_given_one(
    exporter: InMemorySpanExporter,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    name: str,
) -> None:
    """And always its version."""
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)

    attributes = new_traces(exporter).provider.resource.attributes

    assert attributes["service.name"] == name
    assert attributes["service.version"] == "1.2.3"


def test_how_many_are_sampled_is_a_variable_too(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of those that begin here, but those whose caller has sampled them."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    traces = new_traces(exporter)

    with traces.request("GET", {}) as tell_answer:
        assert current_exemplar() is None
        tell_answer("/batch", 200)
    assert exporter.get_finished_spans() == ()

    with traces.request("GET", {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}) as tell_answer:
        assert current_exemplar() == {"trace_id": "1" * 32}
        tell_answer("/batch", 200)
    (span,) = exporter.get_finished_spans()
    assert span.name == "GET /batch"
    assert current_trace() is None


async def test_what_was_not_sent_is_sent_at_the_end(exporter: InMemorySpanExporter) -> None:
    """The spans of the last seconds too."""
    traces = Traces(
        BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000), "1.2.3", Correlation(None)
    )
    with traces.request("GET", {}) as tell_answer:
        tell_answer("/batch", 200)
    assert exporter.get_finished_spans() == ()

    await traces.close()

    assert [span.name for span in exporter.get_finished_spans()] == ["GET /batch"]


async def test_a_collector_that_does_not_answer_holds_nobody_up(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does not take in five seconds is given up, and the event loop is free meanwhile."""
    assert tracing._CLOSE_S == 5
    monkeypatch.setattr(tracing, "_CLOSE_S", 500)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=url))
        traces = Traces(processor, "1.2.3", Correlation(None))
        with traces.request("GET", {}) as tell_answer:
            tell_answer("/batch", 200)

        closing = asyncio.create_task(traces.close())

        await clock.skip(400)
        assert not closing.done()
        await clock.skip(200)
        assert closing.done()


def test_opentelemetry_is_not_imported_where_there_are_no_traces() -> None:
    """It takes a tenth of a second; vLLM imports it in its own time."""
    code = "import sys, service.app; print(any(n.startswith('opentelemetry') for n in sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
