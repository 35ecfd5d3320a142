"""Spans of requests and their stages, and what leads to them."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import SecretStr

from service.observability.correlation import Correlation
from service.observability.opentelemetry import Traces
from service.settings import Limits

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
MARK = "xylophone"
TURN = "/dialogues/{dialogue_id}/utterances"
OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0"}


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def traced(
    start_service: "StartService", tmp_path: Path, exporter: InMemorySpanExporter
) -> AsyncIterator["Service"]:
    """A running service with traces."""
    correlation = Correlation(SecretStr("a key"))
    traces = Traces(SimpleSpanProcessor(exporter), "1.2.3", correlation)
    async with start_service(tmp_path, Limits(), traces=traces) as service:
        yield service


async def say(service: "Service", headers: dict[str, str], text: str = "We won!") -> Any:
    return await service.client.post(
        "/dialogues/call-42/utterances", json={"speaker": "Ann", "text": text}, headers=headers
    )


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    finished = exporter.get_finished_spans()
    return {span.name: span for span in finished}


def trace_id(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}"


def parent_id(span: ReadableSpan) -> str | None:
    return None if span.parent is None else f"{span.parent.span_id:016x}"


def own_id(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"{context.span_id:016x}"


async def test_a_request_is_the_child_of_its_caller_and_the_parent_of_its_stages(
    traced: "Service", exporter: InMemorySpanExporter
) -> None:
    """All in the trace that the caller began; spans are named as Server-Timing names stages."""
    traced.engine.queue_s = 0.001

    answer = await say(traced, SAMPLED)

    finished = spans(exporter)
    stages = set(re.findall(r"(\w+);dur", answer.headers["server-timing"]))
    request = finished[f"POST {TURN}"]
    assert set(finished) == {request.name} | stages
    assert {trace_id(span) for span in finished.values()} == {TRACE}
    assert parent_id(request) == PARENT
    assert request.kind is SpanKind.SERVER
    assert {parent_id(finished[name]) for name in stages - {"queue"}} == {own_id(request)}
    queue, decode = finished["queue"], finished["decode"]
    assert parent_id(queue) == own_id(decode)
    assert queue.start_time == decode.start_time
    assert queue.start_time is not None
    assert queue.end_time == queue.start_time + 1_000_000


async def test_a_request_of_nobody_s_trace_begins_one(
    traced: "Service", exporter: InMemorySpanExporter
) -> None:
    """So does one whose traceparent is none."""
    for headers in ({}, {"traceparent": f"00-{'0' * 32}-{PARENT}-01"}, {"traceparent": MARK}):
        exporter.clear()
        await say(traced, headers)

        request = spans(exporter)[f"POST {TURN}"]
        assert request.parent is None
        assert trace_id(request) not in {TRACE, "0" * 32}


async def test_a_span_says_of_a_request_what_the_log_says(
    traced: "Service", exporter: InMemorySpanExporter
) -> None:
    """Which request it was, and which dialogue, without its name."""
    answer = await say(traced, SAMPLED)
    await traced.client.get("/dialogues/call-42")
    await traced.client.get("/dialogues/call-43")

    attributes = dict(spans(exporter)[f"POST {TURN}"].attributes or {})
    assert attributes["http.request.method"] == "POST"
    assert attributes["http.route"] == TURN
    assert attributes["http.response.status_code"] == 201
    assert attributes["erc.request_id"] == answer.headers["x-request-id"]
    every = [
        str(dict(span.attributes or {})["erc.dialogue"])
        for span in exporter.get_finished_spans()
        if span.kind is SpanKind.SERVER
    ]
    assert every[0] == every[1] != every[2]
    assert re.fullmatch("[0-9a-f]{16}", every[0])


async def test_what_fails_is_an_error_and_what_is_refused_is_none(
    traced: "Service", exporter: InMemorySpanExporter
) -> None:
    """The stage that failed has the error's type."""
    await say(traced, SAMPLED, "? " * 900)
    assert spans(exporter)[f"POST {TURN}"].status.status_code is StatusCode.UNSET
    exporter.clear()
    traced.engine.failure = RuntimeError(MARK)

    await say(traced, SAMPLED)

    finished = spans(exporter)
    assert finished[f"POST {TURN}"].status.status_code is StatusCode.ERROR
    assert finished["decode"].status.status_code is StatusCode.ERROR
    assert finished["decode"].status.description == "builtins.RuntimeError"
    assert finished["store"].status.status_code is StatusCode.UNSET


async def test_nothing_that_people_say_is_in_a_span(
    traced: "Service", exporter: InMemorySpanExporter
) -> None:
    """Nor the names of their dialogues, nor what errors repeat of it."""
    turn = {"speaker": MARK, "text": MARK}
    for failure in (None, RuntimeError(MARK), ExceptionGroup(MARK, [KeyError(MARK)])):
        traced.engine.failure = failure
        await traced.client.post(f"/dialogues/{MARK}/utterances", json=turn, headers=SAMPLED)
        await traced.client.post("/batch", json={"dialogues": [{"id": MARK, "utterances": [turn]}]})
        await traced.client.get(f"/dialogues/{MARK}/forecast", params={"speaker": MARK})
        await traced.client.get(f"/{MARK}", params={MARK: MARK}, headers={"User-Agent": MARK})
        await traced.client.request(MARK.upper(), "/batch")

    finished = exporter.get_finished_spans()
    assert len(finished) > 20
    for span in finished:
        assert MARK not in span.to_json().lower()


async def test_each_utterance_of_a_batch_has_its_stages(
    traced: "Service", exporter: InMemorySpanExporter
) -> None:
    """Side by side under the request."""
    utterances = [{"speaker": "Ann", "text": "We won!"}] * 3
    batch = {"dialogues": [{"id": "a", "utterances": utterances}]}

    await traced.client.post("/batch", json=batch, headers=SAMPLED)

    finished = exporter.get_finished_spans()
    (request,) = (span for span in finished if span.name == "POST /batch")
    decoded = [span for span in finished if span.name == "decode"]
    assert len(decoded) == 3
    assert {parent_id(span) for span in decoded} == {own_id(request)}


async def test_what_is_not_sampled_is_handed_on_and_leaves_nothing(
    traced: "Service", exporter: InMemorySpanExporter
) -> None:
    """Whom the service calls is told not to sample it either."""
    await say(traced, NOT_SAMPLED)

    assert exporter.get_finished_spans() == ()
    (headers,) = traced.engine.handed
    assert headers is not None
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-00", headers["traceparent"])
    page = await traced.client.get("/metrics", headers=OPENMETRICS)
    assert TRACE not in page.text


async def test_whoever_is_called_is_told_the_stage_as_its_parent(
    traced: "Service", exporter: InMemorySpanExporter
) -> None:
    """As vLLM is within decode."""
    await say(traced, SAMPLED)

    decode = own_id(spans(exporter)["decode"])
    assert traced.engine.handed == [{"traceparent": f"00-{TRACE}-{decode}-01"}]


async def test_latencies_lead_to_traces(traced: "Service") -> None:
    """By exemplars, which only OpenMetrics has."""
    await say(traced, SAMPLED)

    page = (await traced.client.get("/metrics", headers=OPENMETRICS)).text
    plain = (await traced.client.get("/metrics")).text

    led = {line.split("{")[0] for line in page.splitlines() if f'# {{trace_id="{TRACE}"}}' in line}
    assert led == {"erc_request_seconds_bucket", "erc_stage_seconds_bucket"}
    stages = {
        match[1]
        for line in page.splitlines()
        if TRACE in line and (match := re.search('stage="(.+?)"', line))
    }
    assert stages == {"admit", "store", "encode", "retrieve", "render", "queue", "decode"}
    assert TRACE not in plain


async def test_probes_and_scrapes_have_no_spans(
    traced: "Service", exporter: InMemorySpanExporter
) -> None:
    """They come every few seconds, and nobody looks at them."""
    for path in ("/livez", "/readyz", "/metrics"):
        await traced.client.get(path, headers=SAMPLED)

    assert exporter.get_finished_spans() == ()


async def test_without_traces_nothing_is_handed_on(service: "Service") -> None:
    """And no number leads anywhere."""
    await say(service, SAMPLED)

    assert service.engine.handed == [None]
    assert TRACE not in (await service.client.get("/metrics", headers=OPENMETRICS)).text
