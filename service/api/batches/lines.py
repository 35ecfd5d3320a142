"""Dialogues of a batch as NDJSON: read line by line, scored in order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.admission.deadline import earn
from service.api.bodies.json_bodies import read_json
from service.api.bodies.ndjson import Emit, lines_of
from service.api.limits import check_dialogue
from service.api.problems.answers import invalid, invalid_problem, problem, problem_of
from service.api.problems.kinds import BODY_TOO_LARGE, FOREIGN, MALFORMED_JSON
from service.api.schemas.batch import ScoredDialogue
from service.concurrency import first_failure
from service.dialogue_format import DialogueIn
from service.errors import ClientLeft, ServiceError
from service.settings import Limits

# Utterances read but not yet scored: how far reading runs ahead of scoring.
_UNDER_WAY = 512

# Per line: its problem document should not be much longer than the line itself.
_FAULTS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Given:
    """A line of a batch: a dialogue, or what is wrong with the line.

    Attributes:
        number: the line's number, from 1.
        content: the dialogue, or a problem document.
    """

    number: int
    content: DialogueIn | dict[str, Any]

    @property
    def broken(self) -> bool:
        return isinstance(self.content, dict)

    @property
    def size(self) -> int:
        """An estimate of the work, in utterances: what counts against a quota."""
        return max(1, len(self.content.utterances)) if isinstance(self.content, DialogueIn) else 1


async def given_lines(
    request: Request, limits: Limits, most: int | None = None
) -> AsyncIterator[Given]:
    """Yield the dialogues of an NDJSON body; a broken line does not affect the others.

    Args:
        most: how many utterances of one dialogue the caller's quota allows, if it says.

    Raises:
        HTTPException: the declared length or encoding is not accepted. Where that shows only later,
            the lines before it are still yielded.
        ClientLeft: the client disconnected.
    """
    number = 0
    try:
        async for number, line in lines_of(request.stream(), limits.body_bytes):
            yield Given(number, _dialogue(number, line, limits, most))
            await asyncio.sleep(0)  # a chunk may hold thousands of lines
    except ClientDisconnect:
        raise ClientLeft("the client has closed its connection") from None
    except HTTPException as error:
        if not number:
            raise
        detail = f"after line {number}: {error.detail}; nothing after it is read"
        yield Given(number + 1, problem(FOREIGN[error.status_code], detail))


def _dialogue(
    number: int, line: bytes | None, limits: Limits, most: int | None
) -> DialogueIn | dict[str, Any]:
    if line is None:
        detail = f"line {number}: at most {limits.body_bytes} bytes are allowed"
        return problem(BODY_TOO_LARGE, detail)
    try:
        value = read_json(line, limits)
        if isinstance(value, list):
            raise invalid(detail="is an array; a line is one dialogue")
        dialogue = DialogueIn.model_validate(value)
        check_dialogue(dialogue, limits, most)
    except orjson.JSONDecodeError as error:
        detail = f"line {number}: {error.msg} (at character {error.pos}); a line is one dialogue"
        return problem(MALFORMED_JSON, detail)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        where = [{"loc": ("body", *fault["loc"]), "msg": fault["msg"]} for fault in faults]
        return invalid_problem(where, f"line {number}: ", _FAULTS_SHOWN)
    except RequestValidationError as error:
        return invalid_problem(error.errors(), f"line {number}: ")
    return dialogue


async def answer_in_order(
    lines: AsyncIterator[Given],
    score: Callable[[DialogueIn], Awaitable[ScoredDialogue]],
    emit: Emit,
    most: int = _UNDER_WAY,
) -> None:
    """Score dialogues and emit one result each, in input order, as soon as it is ready.

    Args:
        most: utterances that may be read before their results are sent; reading then pauses, so
            neither a slow engine nor a slow client makes dialogues or results pile up.

    Raises:
        What `lines` and `emit` raise; scoring in progress is cancelled.
    """
    room = _Room(most)
    begun: asyncio.Queue[tuple[asyncio.Task[dict[str, Any]], int] | None] = asyncio.Queue()

    async def result_of(line: Given) -> dict[str, Any]:
        if isinstance(line.content, dict):
            return {"line": line.number, "error": line.content}
        try:
            return {"line": line.number, **await score(line.content)}
        except ServiceError as error:
            return {"line": line.number, "id": line.content.id, "error": problem_of(error)}

    async def read() -> None:
        async for line in lines:
            await room.take(line.size)
            begun.put_nowait((group.create_task(result_of(line)), line.size))
        begun.put_nowait(None)

    with first_failure():
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            while (first := await begun.get()) is not None:
                task, size = first
                # Not `await task`: that would cancel only the task, and a task group inside it that
                # fails at that moment would raise its own errors instead of the cancellation.
                # `wait` also yields to the event loop where hundreds of results are ready.
                await asyncio.wait((task,))
                result = task.result()
                await emit(result)
                earn(len(result.get("utterances", ())))
                room.leave(size)


class _Room:
    """Room for a number of utterances; a dialogue on its own may exceed it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._left = asyncio.Event()

    async def take(self, size: int) -> None:
        while self._taken and self._taken + size > self._most:
            self._left.clear()
            await self._left.wait()
        self._taken += size

    def leave(self, size: int) -> None:
        self._taken -= size
        self._left.set()
