"""The composition root: opens the service's parts in order, and closes them in reverse.

1. The keys, the rules, the traces, the metrics and the door, before the service listens.
2. The database, then the migration of its tables.
3. The parts of recognition (`service/recognition_parts.py`): label spaces and bundle, the encoder,
   the demonstration store, the engine; then a warm-up.
4. The background tasks: the watches of event loop, engine, keys and rules, housekeeping, jobs, and
   webhooks.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import FastAPI

from service.access.addresses import allowed_hosts, proxies
from service.access.keyring import is_loopback, open_keyring
from service.admission.door import Door, DoorOptions
from service.admission.places import Places
from service.api.application import build_api
from service.api.batches.results import job_scorer
from service.api.middleware.addressing import Front
from service.api.middleware.auth import Access
from service.api.services import Services, State
from service.concurrency import NamedLocks
from service.console import pages
from service.conversation.derived import load_every_label_space
from service.conversation.labels import AnyLabelSpace, LabelSpaceError
from service.conversation.valence import valences_of
from service.decoding.model_files import ModelFolderError
from service.demonstrations.corpus import DemonstrationFormatError
from service.demonstrations.encoder import WrongWeights
from service.demonstrations.store import IndexMismatch
from service.dialogues.corrections import Corrector
from service.dialogues.explanations import Explainer
from service.dialogues.housekeeping import Housekeeping
from service.dialogues.jobs import JobRunner
from service.dialogues.own_label_spaces import OwnLabelSpaces
from service.dialogues.rules import RuleReader
from service.dialogues.summaries import Summarizer
from service.dialogues.turns import TurnTaker
from service.dialogues.webhooks import WebhookKeeping, WebhookSender
from service.errors import ServiceError
from service.observability.correlation import Correlation
from service.observability.engine import CountedEngine
from service.observability.event_loop import LoopLag
from service.observability.logging import log_lost_errors
from service.observability.metrics import Metrics
from service.priority import Priority
from service.recognition.answering import Answerer, is_available
from service.recognition.retrieval import BreakerOptions, GuardedRetrieval, Retrieval
from service.recognition_parts import Parts, Report, open_parts
from service.rules.posting import Poster
from service.rules.rulebook import Rulebook
from service.sessions.database import Database, open_database
from service.sessions.events import Events
from service.sessions.jobs import Jobs
from service.sessions.label_spaces import StoredLabelSpaces
from service.sessions.migrate import migrate
from service.sessions.store import SessionStore
from service.settings import Admission, Settings
from service.start_failures import start_failure_line
from service.version import VERSION

if TYPE_CHECKING:
    from service.observability.opentelemetry import Traces

log = logging.getLogger(__name__)

# Writes allowed per allowed utterance of a dialogue: unlimited corrections and removals would make
# a dialogue that cannot be erased in reasonable time.
_WRITES_AN_UTTERANCE = 10

# Errors that prevent a start and that the operator can correct.
_START_FAILURES = (
    ServiceError,
    ModelFolderError,
    LabelSpaceError,
    IndexMismatch,
    WrongWeights,
    DemonstrationFormatError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Application:
    """The service, for a server to run.

    Attributes:
        api: handles requests; its parts open with its lifespan.
        door: admits requests, and lets them finish before the process exits.
    """

    api: FastAPI
    door: Door
    metrics: Metrics


def create_app(
    settings: Settings,
    report: Report = log.info,
    refuse: Report = log.critical,
    lose: Report = log.critical,
    correlation: Correlation | None = None,
) -> Application:
    """Build the service without opening anything.

    Args:
        report: called with the progress of the start.
        refuse: called with the reason why the service cannot start, if the operator can correct it.
        lose: called with the reason why the service cannot continue and must be restarted.
        correlation: how the log names dialogues, so that traces do the same.

    Raises:
        KeysError: the keys are unusable, or the service would be open to everybody by mistake.
        RulesError, LabelSpaceError: the rules, or the label spaces that they need, are unusable.
    """
    access = _access(settings)
    rulebook = _rulebook(settings)
    share = tenant_share(settings.admission, access)
    traces = _traces(settings, correlation)
    metrics = Metrics()
    door = open_door(settings.admission, share, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        log_lost_errors(asyncio.get_running_loop())
        report("opening the database")
        try:
            database = open_database(settings.database.url.get_secret_value())
        except ValueError as error:
            refuse(f"cannot start: ERC_DATABASE__URL: {error}")
            raise
        except ServiceError as error:
            refuse(f"cannot start: {start_failure_line(error, settings)}")
            raise
        sessions = SessionStore(database)
        try:
            await migrate(database)
            async with open_parts(
                settings,
                report,
                demonstrations=settings.demonstrations.shown,
                traces_endpoint=None if traces is None else traces.endpoint,
                around_engine=lambda engine: CountedEngine(engine, metrics),
                around_retrieval=lambda retrieval: _guarded(retrieval, settings, metrics),
            ) as parts:
                sender = _sender(rulebook, sessions, metrics, settings)
                services = services_of(
                    parts, settings, database, sessions, door, metrics, share=share, sender=sender
                )
                housekeeping = Housekeeping(
                    sessions,
                    services.jobs,
                    services.corrector,
                    settings.sessions,
                    WebhookKeeping(
                        sessions.webhooks, rulebook, metrics.count_webhook_attempt, settings.rules
                    ),
                    # A batch is received within its deadline; after twice that its process is gone.
                    receiving_s=2 * settings.admission.batch_deadline_s,
                )
                _exempt_from_collection()
                background = [
                    services.lag.watch(),
                    parts.engine.watch(lose),
                    housekeeping.run(),
                    JobRunner(services.jobs, job_scorer(services)).run(),
                ]
                if access.keyring is not None:
                    background.append(access.keyring.watch())
                if sender is not None:
                    background += [sender.rulebook.watch(), sender.run()]
                async with _beside(*background):
                    yield {"services": services}
        except _START_FAILURES as error:
            refuse(f"cannot start: {start_failure_line(error, settings)}")
            raise
        finally:
            await sessions.close()
            if traces is not None:
                await traces.close()

    front = Front(settings.root_path or "", proxies(settings.forwarded_allow_ips or ()))
    api = build_api(
        lifespan,
        settings.limits,
        VERSION,
        door,
        access,
        metrics,
        traces,
        front=front,
        pages=[pages.router] if settings.console else [],
    )
    return Application(api, door, metrics)


def tenant_share(admission: Admission, access: Access) -> float:
    """The share of capacity that one tenant may use; without keys everybody is one tenant."""
    return 1.0 if access.keyring is None else admission.tenant_share


def open_door(admission: Admission, share: float, metrics: Metrics) -> Door:
    """Create the door that admits requests, and show it in the metrics.

    Args:
        share: the share of capacity that one tenant may use.
    """
    options = DoorOptions(
        most={Priority.INTERACTIVE: admission.requests, Priority.BATCH: admission.batches},
        deadline_s={
            Priority.INTERACTIVE: admission.deadline_s,
            Priority.BATCH: admission.batch_deadline_s,
        },
        streams=admission.streams,
        share=share,
    )
    door = Door(options, metrics.count_rejection)
    metrics.show_requests(door.under_way, options.most)
    metrics.open_streams.set_function(lambda: len(door.streams))
    return door


def services_of(
    parts: Parts,
    settings: Settings,
    database: Database,
    sessions: SessionStore,
    door: Door,
    metrics: Metrics,
    *,
    share: float,
    sender: WebhookSender | None = None,
) -> Services:
    """Create the services that routes use, and show them in the metrics.

    Args:
        database: the one that `sessions` uses.
        share: the share of capacity that one tenant may use, the same as the door's.
        sender: of webhooks; None: there are no rules.
    """
    rules = None
    if sender is not None:
        metrics.show_rules(rule.name for rule in sender.rulebook.rules.rules)
        rules = RuleReader(
            sender.rulebook, sessions.webhooks, metrics.count_rule_match, sender.wake
        )
    metrics.show_bundle(parts.bundle)
    metrics.show_derived(
        (space for space in parts.derived.values() if is_available(parts.bundle, space)),
        parts.bundle,
    )
    metrics.build_info.labels(VERSION, parts.dtype).set(1)
    metrics.engine_silent_seconds.set_function(lambda: parts.engine.silent_s)
    metrics.show_servers(lambda: parts.engine.servers)
    places = _places(settings, share, metrics)
    own = OwnLabelSpaces(
        parts.recognizer,
        parts.encoder,
        StoredLabelSpaces(database),
        frozenset((*parts.label_spaces, *parts.derived)),
        places,
    )
    answerer = Answerer(parts.recognizer, parts.derived, parts.encoder, own)
    label_spaces: Mapping[str, AnyLabelSpace] = {**parts.label_spaces, **parts.derived}
    valences = valences_of(parts.derived)
    return Services(
        turns=TurnTaker(
            answerer,
            sessions,
            NamedLocks(),
            places,
            settings.limits.dialogue_utterances,
            valences,
            rules,
        ),
        corrector=Corrector(
            label_spaces,
            sessions,
            parts.store,
            parts.encoder,
            NamedLocks(),
            valences,
            most_changes=_WRITES_AN_UTTERANCE * settings.limits.dialogue_utterances,
            most_demonstrations=settings.limits.demonstrations,
            own=own,
        ),
        answerer=answerer,
        explainer=Explainer(answerer, sessions, parts.store, places),
        summarizer=Summarizer(sessions, label_spaces, valences),
        own_label_spaces=own,
        sessions=sessions,
        events=Events(database),
        jobs=Jobs(database),
        store=parts.store,
        encoder=parts.encoder,
        engine=parts.engine,
        label_spaces=parts.label_spaces,
        limits=settings.limits,
        door=door,
        metrics=metrics,
        lag=LoopLag(metrics.event_loop_lag.observe),
        places=places,
        keys=NamedLocks(),
    )


def _rulebook(settings: Settings) -> Rulebook | None:
    if settings.rules.file is None:
        return None
    label_spaces = load_every_label_space(settings.data / "label_spaces")
    return Rulebook(settings.rules.file, label_spaces)


def _sender(
    rulebook: Rulebook | None, sessions: SessionStore, metrics: Metrics, settings: Settings
) -> WebhookSender | None:
    if rulebook is None:
        return None
    return WebhookSender(
        sessions.webhooks,
        rulebook,
        Poster().post,
        metrics.count_webhook_attempt,
        settings.rules.give_up_after_s,
    )


def _traces(settings: Settings, correlation: Correlation | None) -> "Traces | None":
    if not settings.traces:
        return None
    from service.observability.opentelemetry import open_traces

    return open_traces(VERSION, correlation or Correlation(settings.dialogue_key))


def _access(settings: Settings) -> Access:
    keyring = open_keyring(
        settings.keys_file, settings.host, allow_anonymous=settings.allow_anonymous
    )
    loopback, is_open = is_loopback(settings.host), settings.open_operations
    hosts = allowed_hosts(settings.allowed_hosts, loopback=loopback, keys=keyring is not None)
    return Access(
        keyring,
        loopback if is_open is None else is_open,
        hosts,
        frozenset(settings.cors_origins or ()),
    )


def _places(settings: Settings, share: float, metrics: Metrics) -> Places:
    count = settings.utterance_places
    most_waiting = settings.admission.queue_length
    places = Places(
        count,
        reserved=count // 2,  # batches leave half of the places to conversations
        most_waiting=most_waiting,
        share=share,
        reject=metrics.count_rejection,
    )
    metrics.show_places(places, most_waiting)
    return places


@asynccontextmanager
async def _beside(*endless: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run tasks in the background for the duration of the block."""
    tasks = [asyncio.create_task(coroutine) for coroutine in endless]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def _guarded(retrieval: Retrieval, settings: Settings, metrics: Metrics) -> Retrieval:
    demonstrations = settings.demonstrations
    options = BreakerOptions(
        timeout_s=demonstrations.timeout_s,
        threshold=demonstrations.breaker_threshold,
        reset_s=demonstrations.breaker_reset_s,
    )
    return GuardedRetrieval(retrieval, options, metrics.demonstrations_breaker.set)


def _exempt_from_collection() -> None:
    """Exempt all current objects, mostly libraries, from garbage collection.

    Traversing them would block the event loop.
    """
    gc.collect()
    gc.freeze()
