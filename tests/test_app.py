"""What the application makes of its settings."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from service import app as wiring
from service.decoding.bundle import BundleError
from service.settings import Database, Demonstrations, Settings


@pytest.mark.parametrize("shown", [True, False])
async def test_the_settings_say_whether_prompts_show_demonstrations(
    shown: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The start ends where the parts would be opened."""
    asked: dict[str, Any] = {}

    @asynccontextmanager
    async def parts(*arguments: Any, **named: Any) -> AsyncIterator[None]:
        asked.update(named)
        raise BundleError("no further")
        yield

    monkeypatch.setattr(wiring, "open_parts", parts)
    settings = Settings(
        database=Database(url=f"sqlite:///{tmp_path}/erc.sqlite3"),  # type: ignore[arg-type]
        demonstrations=Demonstrations(shown=shown),
    )
    app = wiring.create_app(settings, lambda _: None, lambda _: None)

    with pytest.raises(BundleError, match="no further"):
        async with app.router.lifespan_context(app):
            pass

    assert asked["demonstrations"] is shown


async def test_the_collector_passes_over_what_a_start_leaves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Hundreds of thousands of objects of libraries, which would keep the event loop waiting."""

    @asynccontextmanager
    async def parts(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
        yield MagicMock(**{"engine.watch": AsyncMock()})

    monkeypatch.setattr(wiring, "open_parts", parts)
    settings = Settings(database=Database(url=f"sqlite:///{tmp_path}/erc.sqlite3"))  # type: ignore[arg-type]
    app = wiring.create_app(settings, lambda _: None, lambda _: None)
    gc.unfreeze()

    async with app.router.lifespan_context(app):
        left = gc.get_freeze_count()

    gc.unfreeze()
    assert left > 100_000
