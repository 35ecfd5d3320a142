"""Which numbers the service exports to Prometheus."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from service.priority import Priority
from service.stages import Stage

# A stage takes from tens of microseconds to seconds.
_STAGE_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)

_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The numbers of one service, in a registry of their own. Made by `new_metrics`.

    No label takes a value that clients choose.

    Attributes:
        requests: by method, route and status.
        request_seconds: from the request's head to the end of the answer, by route.
        stage_seconds: by stage of an utterance (`service.stages`).
        predictions: by label space and predicted label.
        forecasts: of turns not yet spoken, by label space and predicted label.
        degraded: answers that went on without a part, by part.
        prompt_tokens: tokens of the prompts given to the label engine.
        cached_tokens: those of them that came from the prefix cache.
        requests_in_flight: admitted and not answered, by priority.
        open_streams: of events, that somebody reads.
        jobs: batches that are scored while nobody waits, by state, of all processes together.
        queue_length: utterances that wait for a place, by priority.
        rejections: requests not answered with what they asked for, by reason.
        event_loop_lag: how much later than planned the event loop goes on, fifty times a second.
        demonstrations_breaker: 0 while demonstrations are asked for, 2 while they are left alone,
            1 while one answer tries again (`service.recognition.breaker`).
        bundle_info: 1, for the bundle that is served.
    """

    registry: CollectorRegistry
    requests: Counter
    request_seconds: Histogram
    stage_seconds: Histogram
    predictions: Counter
    forecasts: Counter
    degraded: Counter
    prompt_tokens: Counter
    cached_tokens: Counter
    requests_in_flight: Gauge
    open_streams: Gauge
    jobs: Gauge
    queue_length: Gauge
    rejections: Counter
    event_loop_lag: Histogram
    demonstrations_breaker: Gauge
    bundle_info: Gauge

    def count_prediction(self, label_space: str, label: str, degraded: Iterable[str]) -> None:
        """Count one answered utterance."""
        self.predictions.labels(label_space, label).inc()
        for part in degraded:
            self.degraded.labels(part).inc()

    def count_forecast(self, label_space: str, label: str) -> None:
        """Count one answered forecast; it is not among the predictions, as nothing was said."""
        self.forecasts.labels(label_space, label).inc()

    def observe_stage(self, stage: Stage, seconds: float) -> None:
        """Note how long an utterance spent in a stage; a listener of `service.stages`."""
        self.stage_seconds.labels(stage).observe(seconds)

    def count_rejection(self, reason: str) -> None:
        """Count a request that is refused, or given up."""
        self.rejections.labels(reason).inc()

    def show_requests(self, under_way: Callable[[Priority], int]) -> None:
        """Have `requests_in_flight` show what is under way when it is read."""
        _show(self.requests_in_flight, under_way)

    def show_queue(self, waiting: Callable[[Priority], int]) -> None:
        """Have `queue_length` show how many wait when it is read."""
        _show(self.queue_length, waiting)

    def show_bundle(self, name: str, version: str, template: str) -> None:
        """Say which bundle is served; any other one no longer is."""
        self.bundle_info.clear()
        self.bundle_info.labels(name, version, template).set(1)


def _show(gauge: Gauge, count: Callable[[Priority], int]) -> None:
    for priority in Priority:
        gauge.labels(priority.name.lower()).set_function(partial(count, priority))


def new_metrics() -> Metrics:
    """All numbers, at zero."""
    # A series beside each one, saying when it began, is read by nobody.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    return Metrics(
        registry=registry,
        requests=Counter(
            "erc_requests",
            "HTTP requests answered.",
            ("method", "route", "status"),
            registry=registry,
        ),
        request_seconds=Histogram(
            "erc_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ("route",),
            registry=registry,
        ),
        stage_seconds=Histogram(
            "erc_stage_seconds",
            "Seconds that an utterance spends in a stage.",
            ("stage",),
            buckets=_STAGE_BUCKETS,
            registry=registry,
        ),
        predictions=Counter(
            "erc_predictions",
            "Utterances answered, by predicted label.",
            ("label_space", "label"),
            registry=registry,
        ),
        forecasts=Counter(
            "erc_forecasts",
            "Forecasts answered, by predicted label.",
            ("label_space", "label"),
            registry=registry,
        ),
        degraded=Counter(
            "erc_degraded",
            "Utterances answered without a part that did not answer.",
            ("part",),
            registry=registry,
        ),
        prompt_tokens=Counter(
            "erc_prompt_tokens",
            "Tokens of the prompts given to the label engine.",
            registry=registry,
        ),
        cached_tokens=Counter(
            "erc_cached_tokens",
            "Prompt tokens that came from the prefix cache.",
            registry=registry,
        ),
        requests_in_flight=Gauge(
            "erc_requests_in_flight",
            "Requests that were admitted and are not answered yet.",
            ("priority",),
            registry=registry,
        ),
        open_streams=Gauge(
            "erc_open_streams",
            "Streams of events that somebody reads.",
            registry=registry,
        ),
        jobs=Gauge(
            "erc_jobs",
            "Jobs in the database, which all processes share.",
            ("state",),
            registry=registry,
        ),
        queue_length=Gauge(
            "erc_queue_length",
            "Utterances that wait for a place in the encoder and the engine.",
            ("priority",),
            registry=registry,
        ),
        rejections=Counter(
            "erc_rejections",
            "Requests refused or given up, by reason.",
            ("reason",),
            registry=registry,
        ),
        event_loop_lag=Histogram(
            "erc_event_loop_lag_seconds",
            "How much later than planned the event loop goes on.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        ),
        demonstrations_breaker=Gauge(
            "erc_demonstrations_breaker",
            "0: demonstrations are asked for; 1: one answer tries; 2: they are left alone.",
            registry=registry,
        ),
        bundle_info=Gauge(
            "erc_bundle_info",
            "1 for the model bundle that is served.",
            ("name", "version", "template"),
            registry=registry,
        ),
    )
