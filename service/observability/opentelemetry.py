"""Traces with OpenTelemetry; imported only where they are enabled.

A request's span is the child of the one that its `traceparent` names (W3C Trace Context), and the
parent of a span for each stage; Qdrant and vLLM are handed the stage's as theirs. Nothing that
people say is in a span: errors are told by their type, requests by their route.
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
from service.tracing.context import NoteBeginning, Trace, traced

_NAME = "instructerc"
_CLOSE_S = 5.0

TellAnswer = Callable[[str, int], None]
"""Says of a request by which route it was answered, and with which status."""


class Traces:
    """The traces of one service; made by `open_traces`."""

    def __init__(self, processor: SpanProcessor, version: str, correlation: Correlation) -> None:
        """Make spans for a processor, as the environment variables of OpenTelemetry say.

        Args:
            version: of the service.
            correlation: how spans name requests and dialogues.
        """
        self._correlation = correlation
        if SERVICE_NAME not in os.environ.get(OTEL_RESOURCE_ATTRIBUTES, ""):
            os.environ.setdefault(OTEL_SERVICE_NAME, _NAME)
        self.provider = TracerProvider(resource=Resource.create({SERVICE_VERSION: version}))
        self.provider.add_span_processor(processor)
        self._tracer = self.provider.get_tracer(_NAME, version)

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[TellAnswer]:
        """Have a span for the request that the block answers, which says at its end with what.

        Args:
            method: of HTTP, a known one.
            headers: the request's.
        """
        span = self._tracer.start_span(
            method, extract(headers), SpanKind.SERVER, {"http.request.method": method}
        )
        found = span.get_span_context()
        trace = Trace(
            trace_id=format_trace_id(found.trace_id),
            span_id=format_span_id(found.span_id),
            headers=_headers,
            open_span=self._open_span if span.is_recording() else None,
        )
        with _opened(span), traced(trace):
            yield partial(self._tell_answer, span, method)

    @property
    def endpoint(self) -> str:
        """Where traces go, as the environment says, with the path that OTLP over HTTP adds."""
        base = os.environ.get(OTEL_EXPORTER_OTLP_ENDPOINT) or "http://localhost:4318"
        own = os.environ.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
        return own or f"{base.removesuffix('/')}/v1/traces"

    async def close(self) -> None:
        """Send what has not been sent, if that takes no more than five seconds."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self.provider.shutdown()
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(sent.set)

        # A thread that nobody waits for at the end: where nobody takes traces, it takes a minute.
        Thread(target=send, daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await sent.wait()

    def _tell_answer(self, span: Span, method: str, route: str, status: int) -> None:
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.route": route, "http.response.status_code": status})
        ids = self._correlation.request_ids()
        span.set_attributes({f"erc.{name}": value for name, value in ids.items()})
        if status >= 500:  # what is the client's fault is none of the service's
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
    """Traces that are sent by OTLP over HTTP; vLLM's of this process go with them."""
    traces = Traces(BatchSpanProcessor(OTLPSpanExporter()), version, correlation)
    set_tracer_provider(traces.provider)
    # vLLM tries to set another one, which is refused, as it is to be, with a warning.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
    return traces


def _headers() -> Mapping[str, str]:
    found: dict[str, str] = {}
    inject(found)
    return found


@contextmanager
def _opened(span: Span) -> Iterator[None]:
    with use_span(span, True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except BaseException as error:
            kind = type(error)
            span.set_status(Status(StatusCode.ERROR, f"{kind.__module__}.{kind.__qualname__}"))
            raise
