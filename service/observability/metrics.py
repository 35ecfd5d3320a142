"""The metrics that the service exports to Prometheus, `erc_*`.

No label takes a value that clients choose, and a label with known values has all of them from the
start, at zero, so that a rate includes the first event.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from service.admission.places import Places
from service.admission.rejections import Rejection
from service.conversation.derived import DerivedLabelSpace
from service.decoding.bundle import Bundle
from service.decoding.engine import ServerState
from service.observability.drift import LEAST, WINDOW, LabelDrift
from service.priority import Priority
from service.recognition.document import ForecastDocument, RecognitionDocument
from service.recognition.result import DEGRADED_DEMONSTRATIONS, DEGRADED_LANGUAGE
from service.sessions.webhooks import WebhookResult
from service.tracing import Stage, current_exemplar

# A turn takes milliseconds, a batch minutes.
_REQUEST_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60, 300,
)  # fmt: skip
# A stage takes from tens of microseconds to seconds.
_STAGE_BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
)  # fmt: skip
_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_CONFIDENCE_BUCKETS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
_MASS_BUCKETS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1)
_SIMILARITY_BUCKETS = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)

# Replaces the names of tenants' own label spaces and labels.
_OWN = "own"

_WEBHOOK_RESULTS = ("retried", *WebhookResult)
_OUTCOMES = {True: "confirmed", False: "changed"}
_VERDICTS = {True: "agreed", False: "disagreed"}


class Metrics:
    """The metrics of one service, in a registry of their own; each has a help text."""

    def __init__(self) -> None:
        # Nobody reads the `_created` series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)

        self.requests = counter(
            "erc_requests", "HTTP requests answered.", ("method", "route", "status")
        )
        self.request_seconds = histogram(
            "erc_request_seconds",
            "Seconds from a request's head to the end of its response.",
            ("route",),
            buckets=_REQUEST_BUCKETS,
        )
        self.requests_in_flight = gauge(
            "erc_requests_in_flight",
            "Admitted requests without a complete response yet.",
            ("priority",),
        )
        self.requests_limit = gauge(
            "erc_requests_limit", "Limit of requests in flight.", ("priority",)
        )
        self.utterances_in_flight = gauge(
            "erc_utterances_in_flight",
            "Utterances being processed by the encoder and the engine.",
            ("priority",),
        )
        self.utterances_limit = gauge(
            "erc_utterances_limit",
            "Limit of utterances in flight; the limit for interactive ones includes that for "
            "batches.",
            ("priority",),
        )
        self.queue_length = gauge(
            "erc_queue_length",
            "Utterances waiting for the encoder and the engine.",
            ("priority",),
        )
        self.queue_limit = gauge(
            "erc_queue_limit",
            "Limit of interactive utterances waiting for the encoder and the engine.",
        )
        self.open_streams = gauge("erc_open_streams", "Open event streams.")
        self.rejections = counter(
            "erc_rejections",
            "Requests rejected for lack of capacity, time or rights, or abandoned, by reason.",
            ("reason",),
        )
        self.problems = counter(
            "erc_problems", "Requests answered with a problem document, by type.", ("type",)
        )
        self.dialogue_problems = counter(
            "erc_dialogue_problems",
            "Dialogues of batches and jobs answered with a problem, by type.",
            ("type",),
        )
        self.stage_seconds = histogram(
            "erc_stage_seconds",
            "Seconds that an utterance spends in a stage.",
            ("stage",),
            buckets=_STAGE_BUCKETS,
        )

        self.event_loop_lag = histogram(
            "erc_event_loop_lag_seconds",
            "Delay of the event loop, sampled fifty times a second.",
            buckets=_LAG_BUCKETS,
        )
        self.engine_silent_seconds = gauge(
            "erc_engine_silent_seconds",
            "Seconds for which the label engine has had requests and answered none of them.",
        )
        self.demonstrations_breaker = gauge(
            "erc_demonstrations_breaker",
            "State of the circuit breaker around retrieval: 0 closed, 1 half-open, 2 open.",
        )
        self.jobs = gauge(
            "erc_jobs", "Jobs in the database, across all processes, by state.", ("state",)
        )
        self.dialogues_open = gauge(
            "erc_dialogues_open",
            "Dialogues in the database, across all processes, written to in the last 5 minutes.",
        )
        self.deliveries_pending = gauge(
            "erc_deliveries_pending",
            "Corrections not yet delivered to the demonstration store, across all processes.",
        )
        self.rule_matches = counter(
            "erc_rule_matches", "Stored utterances on which a rule fired, by rule.", ("rule",)
        )
        self.webhook_attempts = counter(
            "erc_webhook_attempts",
            "Attempts to deliver a webhook, by result; after `retried` another one follows.",
            ("result",),
        )
        self.webhooks_pending = gauge(
            "erc_webhooks_pending",
            "Webhooks in the database, across all processes, that are still to be delivered.",
        )
        self.webhooks_oldest_seconds = gauge(
            "erc_webhooks_oldest_seconds",
            "Seconds since the oldest webhook that is still to be delivered was stored; 0: none "
            "is.",
        )

        self.prompt_tokens = counter(
            "erc_prompt_tokens", "Tokens of prompts read by the label engine."
        )
        self.cached_tokens = counter(
            "erc_cached_tokens", "Prompt tokens that came from the prefix cache."
        )

        self.predictions = counter(
            "erc_predictions",
            "Utterances answered, by predicted label.",
            ("label_space", "label"),
        )
        self.forecasts = counter(
            "erc_forecasts",
            "Forecasts answered, by predicted label; not counted as predictions.",
            ("label_space", "label"),
        )
        self.prediction_confidence = histogram(
            "erc_prediction_confidence",
            "Calibrated probability of the predicted label.",
            ("label_space",),
            buckets=_CONFIDENCE_BUCKETS,
        )
        self.prediction_label_mass = histogram(
            "erc_prediction_label_mass",
            "Probability of all labels together under the model's whole vocabulary.",
            ("label_space",),
            buckets=_MASS_BUCKETS,
        )
        self.demonstration_similarity = histogram(
            "erc_demonstration_similarity",
            "Cosine similarity of an utterance to the nearest demonstration in its prompt.",
            ("label_space",),
            buckets=_SIMILARITY_BUCKETS,
        )
        self.votes = counter(
            "erc_votes",
            "Utterances whose answer includes corrections of similar utterances, by whether "
            "these confirmed or changed the model's label.",
            ("label_space", "outcome"),
        )
        self.degraded = counter(
            "erc_degraded",
            "Utterances answered without an unavailable part or, with part `language`, in a "
            "language that the bundle was not trained on.",
            ("part",),
        )
        self.truncated = counter(
            "erc_truncated",
            "Utterances, or last utterances before a forecast, of which the model read only the "
            "end.",
        )
        self.corrections = counter(
            "erc_corrections",
            "Labels that people gave to predicted utterances, by predicted label and whether the "
            "two agree.",
            ("label_space", "label", "verdict"),
        )
        self.label_drift = gauge(
            "erc_label_drift",
            f"Total variation distance between this process's last {WINDOW} predicted labels and "
            f"the bundle's expected shares, from the {LEAST}th prediction on.",
            ("label_space",),
        )
        self.expected_label_share = gauge(
            "erc_expected_label_share",
            "Share of the label among the bundle's predictions on its development split.",
            ("label_space", "label"),
        )

        self.bundle_info = gauge(
            "erc_bundle_info",
            "1 for the served model bundle.",
            ("name", "version", "template"),
        )
        self.build_info = gauge(
            "erc_build_info",
            "1 for the service's version and vLLM's compute type, if it runs in the process.",
            ("version", "dtype"),
        )

        self._known: set[str] = set()
        self._drifts: dict[str, LabelDrift] = {}
        self.degraded.labels(DEGRADED_DEMONSTRATIONS)
        self.degraded.labels(DEGRADED_LANGUAGE)
        for reason in Rejection:
            self.rejections.labels(reason)
        for result in _WEBHOOK_RESULTS:
            self.webhook_attempts.labels(result)
        for stage in Stage:
            self.stage_seconds.labels(stage)

    def count_prediction(self, answer: RecognitionDocument) -> None:
        """Count one answered utterance."""
        emotion = answer["emotion"]
        space, label = self._counted_as(emotion["label_space"], emotion["label"])
        self.predictions.labels(space, label).inc()
        self.prediction_confidence.labels(space).observe(emotion["confidence"])
        self.prediction_label_mass.labels(space).observe(emotion["label_mass"])
        similarities = [
            demonstration["similarity"]
            for demonstration in answer["demonstrations"]
            if demonstration["shown"]
        ]
        if similarities:
            self.demonstration_similarity.labels(space).observe(max(similarities))
        model_alone = answer["model_alone"]
        if model_alone is not None:
            self.votes.labels(space, _OUTCOMES[model_alone["label"] == emotion["label"]]).inc()
        for part in answer["degraded"]:
            self.degraded.labels(part).inc()
        self.truncated.inc(answer["truncated"])
        drift = self._drifts.get(space)
        if drift is not None and drift.count(label) == LEAST:
            self.label_drift.labels(space).set_function(drift.distance)

    def count_forecast(self, answer: ForecastDocument) -> None:
        """Count one answered forecast; it is not counted as a prediction."""
        emotion = answer["emotion"]
        self.forecasts.labels(*self._counted_as(emotion["label_space"], emotion["label"])).inc()
        self.truncated.inc(answer["truncated"])

    def count_correction(self, label_space: str, label: str, *, agreed: bool) -> None:
        """Count a person's label of a predicted utterance.

        Args:
            label_space, label: of the prediction.
            agreed: whether the person's label is the predicted one.
        """
        space, label = self._counted_as(label_space, label)
        self.corrections.labels(space, label, _VERDICTS[agreed]).inc()

    def observe_stage(self, stage: Stage, seconds: float) -> None:
        """Observe an utterance's time in a stage; a listener of `service.tracing`."""
        self.stage_seconds.labels(stage).observe(seconds, current_exemplar())

    def count_rule_match(self, rule: str) -> None:
        """Count a stored utterance on which a rule of the rules file fired."""
        self.rule_matches.labels(rule).inc()

    def count_webhook_attempt(self, result: str) -> None:
        """Count an attempt to deliver a webhook."""
        self.webhook_attempts.labels(result).inc()

    def show_rules(self, rules: Iterable[str]) -> None:
        """Start the counts of the rules' matches.

        Args:
            rules: their names.
        """
        for rule in rules:
            self.rule_matches.labels(rule)

    def count_problem(self, problem_type: str) -> None:
        """Count a response that is a problem document of this type."""
        self.problems.labels(_name_of(problem_type)).inc()

    def count_rejection(self, reason: str) -> None:
        """Count a request that is rejected or abandoned."""
        self.rejections.labels(reason).inc()

    def count_result(self, result: Mapping[str, Any]) -> None:
        """Count the problem in a batch's result for one dialogue, if there is one."""
        problem = result.get("error")
        if problem is not None:
            self.dialogue_problems.labels(_name_of(problem["type"])).inc()

    def show_problems(self, types: Iterable[str]) -> None:
        """Start both counts of problems at zero.

        Args:
            types: of problem documents, such as "/problems/overloaded".
        """
        for name in map(_name_of, types):
            self.problems.labels(name)
            self.dialogue_problems.labels(name)

    def show_requests(
        self, under_way: Callable[[Priority], int], most: Mapping[Priority, int]
    ) -> None:
        """Make the gauges of requests read `under_way` at scrape time, and show the limits."""
        _show(self.requests_in_flight, under_way)
        _show(self.requests_limit, most.__getitem__)

    def show_places(self, places: Places, most_waiting: int) -> None:
        """Make the gauges of utterances read `places` at scrape time, and show the limits."""
        _show(self.utterances_in_flight, places.taken)
        _show(self.utterances_limit, places.most)
        _show(self.queue_length, places.waiting)
        self.queue_limit.set(most_waiting)

    def show_servers(self, servers: Callable[[], Sequence[ServerState]]) -> None:
        """Show the label engine's servers as `servers` has them at scrape time."""
        self.registry.register(_Servers(servers))

    def show_bundle(self, bundle: Bundle) -> None:
        """Show the served bundle and its expected shares, and start its labels' counts."""
        self.bundle_info.labels(bundle.name, bundle.version, bundle.template).set(1)
        for space, trained in bundle.label_spaces.items():
            self._begin_labels(space, trained.verbalizers, forecasts="prediction" in bundle.tasks)
            if trained.predicted:
                self._drifts[space] = LabelDrift(trained.predicted)
                for label, share in trained.predicted.items():
                    self.expected_label_share.labels(space, label).set(share)

    def show_derived(self, label_spaces: Iterable[DerivedLabelSpace], bundle: Bundle) -> None:
        """Start the counts of labels of the derived label spaces that a bundle answers in."""
        for space in label_spaces:
            self._begin_labels(space.name, space.names, forecasts="prediction" in bundle.tasks)

    def _counted_as(self, space: str, label: str) -> tuple[str, str]:
        """The metric labels; tenants' own label spaces share one, because tenants choose names.

        Before a bundle is shown no tenant has any.
        """
        return (space, label) if space in self._known or not self._known else (_OWN, _OWN)

    def _begin_labels(self, space: str, labels: Iterable[str], *, forecasts: bool) -> None:
        self._known.add(space)
        for histogram in (
            self.prediction_confidence,
            self.prediction_label_mass,
            self.demonstration_similarity,
        ):
            histogram.labels(space)
        for outcome in _OUTCOMES.values():
            self.votes.labels(space, outcome)
        for label in labels:
            self.predictions.labels(space, label)
            if forecasts:
                self.forecasts.labels(space, label)
            for verdict in _VERDICTS.values():
                self.corrections.labels(space, label, verdict)


@dataclass(frozen=True, slots=True)
class _Servers(Collector):
    """Collects the servers there are; those that have gone leave no series behind."""

    servers: Callable[[], Sequence[ServerState]]

    def collect(self) -> Iterable[Metric]:
        available = GaugeMetricFamily(
            "erc_engine_server_available",
            "1 for a server of the label engine that is asked, 0 for one that is set aside.",
            labels=("server",),
        )
        reads = CounterMetricFamily(
            "erc_engine_server_reads",
            "Requests to a remote server of the label engine, by what became of them.",
            labels=("server", "outcome"),
        )
        open_reads = GaugeMetricFamily(
            "erc_engine_server_open_reads",
            "Prompts that a server of the label engine is reading for this process.",
            labels=("server",),
        )
        seconds = SummaryMetricFamily(
            "erc_engine_server_read_seconds",
            "Seconds that a server of the label engine took for the prompts that it answered.",
            labels=("server",),
        )
        prompt_tokens = CounterMetricFamily(
            "erc_engine_server_prompt_tokens",
            "Tokens of the prompts that a server of the label engine answered.",
            labels=("server",),
        )
        cached_tokens = CounterMetricFamily(
            "erc_engine_server_cached_tokens",
            "Of these tokens, those that came from the server's prefix cache.",
            labels=("server",),
        )
        for server in self.servers():
            label, work = (server.name,), server.work
            available.add_metric(label, server.is_available)
            for outcome, count in server.outcomes.items():
                reads.add_metric((server.name, outcome), count)
            open_reads.add_metric(label, server.open_reads)
            seconds.add_metric(label, work.reads, work.seconds)
            prompt_tokens.add_metric(label, work.prompt_tokens)
            cached_tokens.add_metric(label, work.cached_tokens)
        return (available, reads, open_reads, seconds, prompt_tokens, cached_tokens)


def _name_of(problem_type: str) -> str:
    return problem_type.rpartition("/")[2]


def _show(gauge: Gauge, count: Callable[[Priority], int]) -> None:
    for priority in Priority:
        gauge.labels(priority.name.lower()).set_function(partial(count, priority))
