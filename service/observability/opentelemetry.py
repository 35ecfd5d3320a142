"""Traces with OpenTelemetry; imported only if they are enabled.

A request's span is the child of the one in its `traceparent` (W3C Trace Context), and the parent of
a span for each stage; Qdrant and vLLM receive the stage's span as parent. No span contains what
people say: errors are recorded by type, requests by route.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from threading import Thread

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_RESOURCE_ATTRIBUTES,
    OTEL_SERVICE_NAME,
)
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    format_span_id,
    format_trace_id,
    set_tracer_provider,
    use_span,
)

from service.observability.correlation import Correlation
from service.tracing import NoteBeginning, Trace, traced

_NAME = "instructerc"
_CLOSE_S = 5.0

TellAnswer = Callable[[str, int], None]
"""Records a request's route and its response's status."""


class Traces:
    """The traces of one service; made by `open_traces`."""

    def __init__(self, processor: SpanProcessor, version: str, correlation: Correlation) -> None:
        """Make spans for a processor, configured by OpenTelemetry's environment variables.

        Args:
            version: of the service.
            correlation: provides the ids of requests and dialogues.
        """
        self._correlation = correlation
        if SERVICE_NAME not in os.environ.get(OTEL_RESOURCE_ATTRIBUTES, ""):
            os.environ.setdefault(OTEL_SERVICE_NAME, _NAME)
        self.provider = TracerProvider(resource=Resource.create({SERVICE_VERSION: version}))
        self.provider.add_span_processor(processor)
        self._tracer = self.provider.get_tracer(_NAME, version)

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[TellAnswer]:
        """Open a span for the request that the block answers; the block reports the response.

        Args:
            method: a known HTTP method.
            headers: the request's.
        """
        span = self._tracer.start_span(
            method, extract(headers), SpanKind.SERVER, {"http.request.method": method}
        )
        context = span.get_span_context()
        trace = Trace(
            trace_id=format_trace_id(context.trace_id),
            span_id=format_span_id(context.span_id),
            headers=_headers,
            open_span=self._open_span if span.is_recording() else None,
        )
        with _opened(span), traced(trace):
            yield partial(self._tell_answer, span, method)

    @property
    def endpoint(self) -> str:
        """The URL that receives traces, from the environment, with the path of OTLP over HTTP."""
        base = os.environ.get(OTEL_EXPORTER_OTLP_ENDPOINT) or "http://localhost:4318"
        traces_endpoint = os.environ.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
        return traces_endpoint or f"{base.removesuffix('/')}/v1/traces"

    async def close(self) -> None:
        """Send the remaining spans, for at most five seconds."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self.provider.shutdown()
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(sent.set)

        # A daemon thread: if no server accepts the traces, the shutdown takes a minute.
        Thread(target=send, daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await sent.wait()

    def _tell_answer(self, span: Span, method: str, route: str, status: int) -> None:
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.route": route, "http.response.status_code": status})
        ids = self._correlation.request_ids()
        span.set_attributes({f"erc.{name}": value for name, value in ids.items()})
        if status >= 500:  # clients' errors are not the service's
            span.set_status(StatusCode.ERROR)

    @contextmanager
    def _open_span(self, name: str) -> Iterator[NoteBeginning]:
        start = time.time_ns()
        with _opened(self._tracer.start_span(name, start_time=start)):
            yield partial(self._note_beginning, start)

    def _note_beginning(self, start: int, name: str, seconds: float) -> None:
        span = self._tracer.start_span(name, start_time=start)
        span.end(start + round(1e9 * seconds))


def open_traces(version: str, correlation: Correlation) -> Traces:
    """Open traces that are sent by OTLP over HTTP, including those of vLLM in this process."""
    traces = Traces(BatchSpanProcessor(OTLPSpanExporter()), version, correlation)
    set_tracer_provider(traces.provider)
    # vLLM tries to set another provider, which is refused, as intended, with a warning.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
    return traces


def _headers() -> Mapping[str, str]:
    headers: dict[str, str] = {}
    inject(headers)
    return headers


@contextmanager
def _opened(span: Span) -> Iterator[None]:
    with use_span(span, True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except BaseException as error:
            kind = type(error)
            span.set_status(Status(StatusCode.ERROR, f"{kind.__module__}.{kind.__qualname__}"))
            raise
