"""Checks of the model bundle, and of vLLM on it, in this process or on servers."""

import asyncio

from service.conversation.derived import load_derived_label_spaces
from service.conversation.labels import load_label_spaces
from service.decoding.bundle import load_bundle
from service.decoding.engine import ServerState
from service.decoding.in_process import start_engine
from service.decoding.model_files import ModelFolderError
from service.decoding.model_folder import look_at_weights
from service.decoding.tokenizer import load_tokenizer
from service.demonstrations.encoder import IDENTITY
from service.doctor.findings import Fault
from service.errors import EngineUnavailable
from service.files import error_in_words
from service.recognition_parts import engine_options, load_served_bundle, open_servers
from service.settings import Settings

_MIB = 2**20
_ANOTHER = "set ERC_BUNDLE to another bundle"


def bundle(settings: Settings) -> str:
    """Check the bundle's description, the integrity of its files, and its encoder."""
    folder = settings.bundle.absolute()
    try:
        label_spaces = load_label_spaces(settings.data / "label_spaces")
        load_derived_label_spaces(settings.data / "label_spaces", label_spaces)
    except (ValueError, OSError) as error:
        raise Fault(error_in_words(error), "set ERC_DATA to the data folder") from None
    try:
        description = load_served_bundle(settings, label_spaces)
        if settings.engine.urls is not None:
            weights = "without weights"
        elif settings.engine.weights:
            weights = f"weights in {settings.engine.weights}"
        else:
            weights = f"{look_at_weights(folder)[1] / _MIB:.0f} MiB of weights"
        load_tokenizer(folder)
    except ModelFolderError as error:
        remedy = f"{error.remedy}, or {_ANOTHER}" if error.remedy else _ANOTHER
        raise Fault(error.problem, remedy) from error
    except OSError as error:
        raise Fault(error_in_words(error), _ANOTHER) from None
    if description.encoder != IDENTITY:
        raise Fault(
            f"{folder} was trained with encoder {description.encoder}, but the service has "
            f"{IDENTITY}",
            _ANOTHER,
        )
    return (
        f"{description.name} {description.version} in {folder}, {weights}, "
        f"for {', '.join(description.label_spaces)}"
    )


def servers(settings: Settings) -> str:
    """Check the servers of vLLM as a start does."""
    folder = settings.bundle
    try:
        spaces = load_label_spaces(settings.data / "label_spaces")
        description = load_bundle(folder, spaces, model=False)
        tokenizer = load_tokenizer(folder)
    except (ValueError, OSError):
        raise Fault("there is no bundle to ask servers for", "correct the bundle") from None

    async def look() -> list[ServerState]:
        opened = await open_servers(settings, description, tokenizer)
        await opened.close()
        return list(opened.servers)

    try:
        states = asyncio.run(look())
    except EngineUnavailable as error:
        problem, _, remedy = str(error).partition(": start it ")
        raise Fault(problem, f"start it {remedy}" if remedy else "see docs/engines.md") from error
    away = [state.name for state in states if not state.is_available]
    if away:
        names = ", ".join(away)
        raise Fault(f"of {len(states)} servers {names} cannot be used", "start them", "warning")
    return f"{', '.join(state.name for state in states)} read as {description.name} does"


def engine(settings: Settings) -> str:
    """Start vLLM on the bundle, and stop it."""
    try:
        label_spaces = load_label_spaces(settings.data / "label_spaces")
        description = load_served_bundle(settings, label_spaces)
    except (ValueError, OSError):
        raise Fault("without a bundle vLLM cannot be started", "correct the bundle") from None
    try:
        asyncio.run(_start(settings, description.max_tokens))
    except EngineUnavailable as error:
        raise Fault(str(error), "see the output of vLLM above") from error
    return f"vLLM starts on {settings.bundle}"


async def _start(settings: Settings, max_tokens: int) -> None:
    started = await start_engine(
        settings.bundle, max_tokens=max_tokens, options=engine_options(settings)
    )
    try:
        await started.check()
    finally:
        await started.close()
