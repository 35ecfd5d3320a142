"""The model bundle, and vLLM on it."""

import asyncio
import json
from pathlib import Path

from service.conversation.labels import load_label_spaces
from service.decoding.bundle import BundleError, load_bundle
from service.decoding.in_process import start_engine
from service.decoding.tokenizer import load_tokenizer
from service.demonstrations.encoder import IDENTITY
from service.doctor.findings import Fault
from service.errors import EngineUnavailable
from service.files import in_words
from service.parts import engine_options
from service.settings import Settings

_MIB = 2**20
_ANOTHER = "have ERC_BUNDLE name another bundle, or copy this one again"
_HEADER_BYTES = 8  # of a file of safetensors: how long the description is that follows


def bundle(settings: Settings) -> str:
    """Its description, its files, whole, and what it was trained with."""
    folder = settings.bundle.absolute()
    try:
        label_spaces = load_label_spaces(settings.data / "label_spaces")
    except (ValueError, OSError) as error:
        raise Fault(in_words(error), "have ERC_DATA name the data folder") from None
    try:
        found = load_bundle(folder, label_spaces)
        weights = sum(_checked_size(file) for file in _weights(folder))
        json.loads((folder / "config.json").read_bytes())
    except BundleError as error:
        raise Fault(str(error), _ANOTHER) from None
    except OSError as error:
        raise Fault(in_words(error), _ANOTHER) from None
    except ValueError:
        raise Fault(f"{folder}/config.json is not JSON", _ANOTHER) from None
    try:
        load_tokenizer(folder)
    except Exception as error:  # transformers' errors have no common root
        kind = type(error).__name__
        raise Fault(f"the tokenizer in {folder} cannot be loaded ({kind})", _ANOTHER) from error
    if found.encoder != IDENTITY:
        raise Fault(
            f"{folder} was trained with encoder {found.encoder}, the service has {IDENTITY}",
            _ANOTHER,
        )
    return (
        f"{found.name} {found.version} in {folder}, {weights / _MIB:.0f} MiB of weights, for "
        f"{', '.join(found.label_spaces)}"
    )


def _weights(folder: Path) -> list[Path]:
    """The files of weights: those that an index names, or those there are."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return sorted(folder.glob("*.safetensors"))
    try:
        named = json.loads(index.read_bytes())["weight_map"].values()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(f"{index} is not an index of weights") from None
    return [folder / name for name in sorted(set(named))]


def _checked_size(file: Path) -> int:
    """The bytes of a whole file of safetensors.

    Raises:
        BundleError: it is cut short, or another kind of file.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_HEADER_BYTES), "little")
        if length > size - _HEADER_BYTES:
            raise BundleError(f"{file} is no whole file of safetensors")
        try:
            tensors = json.loads(opened.read(length))
            ends = [each["data_offsets"][1] for name, each in tensors.items() if name[:2] != "__"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BundleError(f"{file} is no file of safetensors") from None
    whole = _HEADER_BYTES + length + max(ends, default=0)
    if size != whole:
        raise BundleError(f"{file} has {size} bytes of {whole}")
    return size


def engine(settings: Settings) -> str:
    """Start vLLM on the bundle, and end it."""
    try:
        found = load_bundle(settings.bundle, load_label_spaces(settings.data / "label_spaces"))
    except (ValueError, OSError):
        raise Fault("there is no bundle to start vLLM on", "mend the bundle") from None
    try:
        asyncio.run(_start(settings, found.max_tokens))
    except EngineUnavailable as error:
        raise Fault(str(error), "see what vLLM says above") from error
    return f"vLLM starts on {settings.bundle}"


async def _start(settings: Settings, max_tokens: int) -> None:
    started = await start_engine(
        settings.bundle, max_tokens=max_tokens, options=engine_options(settings)
    )
    try:
        await started.check()
    finally:
        await started.close()
