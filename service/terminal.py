"""What commands share: settings, and how progress and failures are reported."""

import logging
import sys
from collections.abc import Callable
from typing import NoReturn, Protocol

import typer
from pydantic import ValidationError

from service.observability.correlation import Correlation
from service.observability.logging import log_to
from service.settings import Settings, UnknownSetting, faults_of, load_settings

log = logging.getLogger(__name__)


def given_settings() -> Settings:
    """The settings; exits with their faults where there are any."""
    try:
        return load_settings()
    except UnknownSetting as error:
        fail(str(error))
    except ValidationError as error:
        print("\n".join(faults_of(error)), file=sys.stderr)
        raise typer.Exit(2) from None


class End(Protocol):
    """Exits with a reason and a status."""

    def __call__(self, why: str, status: int = 2) -> NoReturn: ...


def speaking(
    settings: Settings, correlation: Correlation | None = None
) -> tuple[Callable[[str], None], End]:
    """How a command reports progress and failure: as plain lines, or as JSON log lines.

    Args:
        correlation: how the log names dialogues; None: as configured.
    """
    if settings.log_format == "text":
        log_to(sys.stderr, settings.log_level)
        return say, fail
    log_to(sys.stderr, settings.log_level, correlation or Correlation(settings.dialogue_key))

    def end(why: str, status: int = 2) -> NoReturn:
        log.critical(why)
        raise typer.Exit(status)

    return log.info, end


def say(message: str) -> None:
    """Print a line at once."""
    print(message, flush=True)


def fail(why: str, status: int = 2) -> NoReturn:
    """Exit with a reason."""
    print(f"instructerc: {why}", file=sys.stderr)
    raise typer.Exit(status)
