"""What opens and closes, in what order; the one place that wires the rooms together."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from service.api.http import build_api
from service.api.services import Services, State, metrics_of
from service.corrections import Corrector
from service.decoding.bundle import BundleError
from service.demonstrations.corpus import DemonstrationFormatError
from service.demonstrations.encoder import WrongWeights
from service.demonstrations.store import IndexMismatch
from service.errors import ServiceError
from service.housekeeping import Housekeeping
from service.observability.engine import CountedEngine
from service.parts import Report, open_parts
from service.sessions.database import open_database
from service.sessions.migrate import migrate
from service.sessions.store import SessionStore
from service.sessions.turns import NamedLocks
from service.settings import Settings
from service.turns import TurnTaker

log = logging.getLogger(__name__)


# What stands in the way of a start and can be mended by whoever starts it.
_START_FAILURES = (
    ServiceError,
    BundleError,
    IndexMismatch,
    WrongWeights,
    DemonstrationFormatError,
    OSError,
)


def create_app(
    settings: Settings, report: Report = log.info, refuse: Report = log.critical
) -> FastAPI:
    """The service as an ASGI application; its parts open with its lifespan.

    Args:
        report: told what is being done at the start.
        refuse: told why the service cannot start, where the cause can be mended.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[State]:
        report("opening the database")
        try:
            database = open_database(settings.database.url.get_secret_value())
        except ValueError as error:
            refuse(f"cannot start: ERC_DATABASE__URL: {error}")
            raise
        sessions = SessionStore(database)
        try:
            await migrate(database)
            metrics = metrics_of(app)
            async with open_parts(
                settings,
                report,
                demonstrations=settings.demonstrations.shown,
                around_engine=lambda engine: CountedEngine(engine, metrics),
            ) as parts:
                corrector = Corrector(
                    parts.label_spaces, sessions, parts.store, parts.encoder, NamedLocks()
                )
                housekeeping = Housekeeping(sessions, corrector, settings.sessions)
                _exempt_from_collection()
                async with _beside(housekeeping.run()):
                    yield {
                        "services": Services(
                            turns=TurnTaker(parts.recognizer, sessions, NamedLocks()),
                            corrector=corrector,
                            recognizer=parts.recognizer,
                            sessions=sessions,
                            store=parts.store,
                            encoder=parts.encoder,
                            engine=parts.engine,
                            label_spaces=parts.label_spaces,
                            limits=settings.limits,
                            # Enough to fill the engine's steps, with the next ones ready.
                            batch_places=asyncio.Semaphore(2 * settings.engine.max_sequences),
                            keys=NamedLocks(),
                        )
                    }
        except _START_FAILURES as error:
            refuse(f"cannot start: {error}")
            raise
        finally:
            await sessions.close()

    return build_api(lifespan, settings.limits, version("instructerc"))


@asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Have some work done for as long as the block lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _exempt_from_collection() -> None:
    """Have the garbage collector pass over everything that is there, libraries for the most part.

    Looking through it all would keep the event loop waiting.
    """
    gc.collect()
    gc.freeze()
