"""Dialogues of a batch as NDJSON: read line by line, answered in order."""

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

from service.admission.patience import earn
from service.api.bodies.bounded_json import read_json
from service.api.bodies.ndjson import Emit, lines_of
from service.api.limits import check_dialogue
from service.api.problems.answers import invalid, invalid_problem, problem, problem_of
from service.api.problems.kinds import BODY_TOO_LARGE, FOREIGN, MALFORMED_JSON
from service.api.schemas.batch import ScoredDialogue
from service.dialogue_format import DialogueIn
from service.errors import ClientLeft, ServiceError
from service.settings import Limits
from service.side_by_side import first_failure

# Utterances that have been read and not answered; so far reading goes ahead of scoring.
_UNDER_WAY = 512

# Of a line: what is said of it is to be hardly longer than the line, however many there are.
_FAULTS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Given:
    """A dialogue of a batch, or what is wrong with its line.

    Attributes:
        number: of its line, from 1.
        what: the dialogue, or a problem document.
    """

    number: int
    what: DialogueIn | dict[str, Any]

    @property
    def broken(self) -> bool:
        return isinstance(self.what, dict)

    @property
    def size(self) -> int:
        """Roughly the work there is, in utterances: what counts against a quota."""
        return max(1, len(self.what.utterances)) if isinstance(self.what, DialogueIn) else 1


async def given_lines(
    request: Request, limits: Limits, most: int | None = None
) -> AsyncIterator[Given]:
    """The dialogues of a body of lines; a broken line concerns no other.

    Args:
        most: how many utterances of one dialogue the caller's quota allows, if it says.

    Raises:
        HTTPException: the body is declared as larger than is taken, or as what is not; of a body
            that turns out to be, the lines before it are read.
        ClientLeft: the client broke off.
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
        found = DialogueIn.model_validate(value)
        check_dialogue(found, limits, most)
    except orjson.JSONDecodeError as error:
        detail = f"line {number}: {error.msg} (at character {error.pos}); a line is one dialogue"
        return problem(MALFORMED_JSON, detail)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        where = [{"loc": ("body", *fault["loc"]), "msg": fault["msg"]} for fault in faults]
        return invalid_problem(where, f"line {number}: ", _FAULTS_SHOWN)
    except RequestValidationError as error:
        return invalid_problem(error.errors(), f"line {number}: ")
    return found


async def answer_in_order(
    given: AsyncIterator[Given],
    score: Callable[[DialogueIn], Awaitable[ScoredDialogue]],
    emit: Emit,
    most: int = _UNDER_WAY,
) -> None:
    """Score dialogues and emit a line for each, in the order given, as soon as it is done.

    While so many utterances have been read and their results have not been taken, nothing more is
    read: neither a slow engine nor a slow client makes results or dialogues pile up.

    Raises:
        What `given` and `emit` raise; what is under way is cancelled.
    """
    room = _Room(most)
    begun: asyncio.Queue[tuple[asyncio.Task[dict[str, Any]], int] | None] = asyncio.Queue()

    async def one(each: Given) -> dict[str, Any]:
        if isinstance(each.what, dict):
            return {"line": each.number, "error": each.what}
        try:
            return {"line": each.number, **await score(each.what)}
        except ServiceError as error:
            return {"line": each.number, "id": each.what.id, "error": problem_of(error)}

    async def read() -> None:
        async for each in given:
            await room.take(each.size)
            begun.put_nowait((group.create_task(one(each)), each.size))
        begun.put_nowait(None)

    with first_failure():
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            while (first := await begun.get()) is not None:
                task, size = first
                # Not `await task`: a cancellation would be the task's alone, and be lost where a
                # task group in it, which fails at that moment, raises its errors in place of it.
                # To wait is a turn of the loop, also where hundreds of results are ready.
                await asyncio.wait((task,))
                result = task.result()
                await emit(result)
                earn(len(result.get("utterances", ())))
                room.leave(size)


class _Room:
    """For so many utterances; one dialogue alone may have more."""

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
