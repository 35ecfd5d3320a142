"""Checks of the model bundle, and of vLLM on it."""

import asyncio

from service.conversation.derived import load_derived_label_spaces
from service.conversation.labels import load_label_spaces
from service.decoding.bundle import load_bundle
from service.decoding.in_process import start_engine
from service.decoding.model_files import ModelFolderError
from service.decoding.model_folder import look_at_weights
from service.decoding.tokenizer import load_tokenizer
from service.demonstrations.encoder import IDENTITY
from service.doctor.findings import Fault
from service.errors import EngineUnavailable
from service.files import error_in_words
from service.recognition_parts import engine_options
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
        description = load_bundle(folder, label_spaces)
        _, weights_bytes = look_at_weights(folder)
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
        f"{description.name} {description.version} in {folder}, "
        f"{weights_bytes / _MIB:.0f} MiB of weights, for {', '.join(description.label_spaces)}"
    )


def engine(settings: Settings) -> str:
    """Start vLLM on the bundle, and stop it."""
    try:
        description = load_bundle(
            settings.bundle, load_label_spaces(settings.data / "label_spaces")
        )
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
