"""The route of a dialogue's event stream."""

import re
from collections.abc import AsyncGenerator
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response

from service.access.keys import Scope
from service.api.events.stream import (
    EVENT_STREAM,
    HEARTBEAT,
    RETRY,
    EventStream,
    event,
    head_of_stream,
)
from service.api.policies import policy
from service.api.problems.answers import documented, invalid
from service.api.problems.kinds import ADMISSION_PROBLEMS, INVALID_REQUEST, NOT_ACCEPTABLE
from service.api.request_headers import accepted, is_head
from service.api.response_headers import UNBUFFERED, carrying
from service.api.routers.dialogues import correction_document
from service.api.routers.utterances import DialogueId, utterance_document
from service.api.schemas.streams import EVENT, CorrectionEvent, PredictionEvent
from service.api.services import Services, ServicesDep, TenantDep
from service.dialogue_format import Patterned
from service.errors import DatabaseUnavailable, DialogueNotFound
from service.sessions.events import Event, Position
from service.sessions.records import StoredUtterance, Version

router = APIRouter(prefix="/dialogues", tags=["dialogues"])

HEARTBEAT_S = 15.0
# Events read at once: the most that one stream holds in memory.
_PAGE = 100

_ERASED = "erased"
_ID = re.compile(r"([0-9a-f]{1,16})\.([0-9]{1,10}|erased)")
_EventId = Annotated[str, Patterned(f"^{_ID.pattern}$")]

_EXAMPLE = """\
retry: 1000

id: 5f3a.1
event: prediction
data: {"dialogue_id":"call-42","index":0,"speaker":"Ann","text":"We won!","emotion":{...},...}

id: 5f3a.2
event: correction
data: {"dialogue_id":"call-42","index":0,"correction":{"label_space":"meld","label":"surprise",...}}

: still here

id: 5f3a.erased
event: erased
data: {"dialogue_id":"call-42"}
"""


@router.get(
    "/{dialogue_id}/events",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {
            "description": "The stream of events",
            "content": {
                EVENT_STREAM: {
                    "itemSchema": EVENT,
                    "example": _EXAMPLE,
                }
            },
            **carrying(*UNBUFFERED),
        },
        204: {"description": "You have the event `erased` already: do not reconnect"},
        **documented(
            INVALID_REQUEST,
            NOT_ACCEPTABLE,
            *ADMISSION_PROBLEMS,
            DialogueNotFound,
            DatabaseUnavailable,
        ),
    },
)
@policy(Scope.READ)
async def follow_dialogue(
    request: Request,
    dialogue_id: DialogueId,
    tenant: TenantDep,
    services: ServicesDep,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
    last_event_id: Annotated[
        _EventId | None,
        Header(
            alias="Last-Event-ID",
            description="The `id` of the last event that you received.",
        ),
    ] = None,
    after: Annotated[
        _EventId | None,
        Query(
            description="The same, for clients that cannot set headers; the header takes "
            "precedence. The timeline's `ETag`, without its quotes, is valid too: the stream "
            "continues from there.",
        ),
    ] = None,
) -> Response:
    """Follow a dialogue by server-sent events: past predictions first, then each new one.

    `prediction` has the response to the post and `created_at`; `correction` has a correction, or
    null where it was removed. `erased` is the last event of a dialogue. A stream may end at any
    time, such as when its process shuts down: reconnect with `Last-Event-ID`, to any replica, and
    no event is missed or repeated. A comment is sent while nothing happens. A client that reads
    nothing for half a minute is disconnected.
    """
    accepted(accept, [EVENT_STREAM])
    # Both are checked, also the one that does not count.
    known = _position("Last-Event-ID", last_event_id, "header")
    asked = _position("after", after, "query")
    position = asked if known is None else known
    if isinstance(position, str):
        return Response(status_code=204)
    if is_head(request.scope):
        if position is None:
            await _begin(tenant, dialogue_id, services)
        return head_of_stream()
    return EventStream(_events(tenant, dialogue_id, position, services))


def _position(
    name: str, value: str | None, source: Literal["header", "query"]
) -> Position | str | None:
    """The position of an event's id, `_ERASED` behind the last one, or None where none is given."""
    if value is None:
        return None
    match = _ID.fullmatch(value)
    if match is None:
        raise invalid(name, detail="is not the id of an event", source=source)
    generation, number = match.groups()
    return _ERASED if number == _ERASED else Position(Version(int(generation, 16), int(number)))


async def _events(
    tenant: str, dialogue_id: str, position: Position | None, services: Services
) -> AsyncGenerator[bytes, None]:
    """The stream, in chunks.

    Raises:
        DialogueNotFound: the dialogue does not exist, and the client has no event of it.
        Overloaded, ShuttingDown: no stream can be opened.
        DatabaseUnavailable: the database does not respond.
    """
    followers, events = services.sessions.followers, services.events
    with (
        services.door.streams.open(tenant) as stream,
        followers.follow(tenant, dialogue_id, stream.wake),
    ):
        if position is None:
            position = await _begin(tenant, dialogue_id, services)
        yield RETRY
        while not stream.ended:
            page = await events.after(tenant, dialogue_id, position, _PAGE)
            if page is None:
                identifier = f"{position.version.generation:x}.{_ERASED}"
                yield event(identifier, _ERASED, {"dialogue_id": dialogue_id})
                return
            data = await services.with_texts(
                [_document(dialogue_id, item, services) for item in page], tenant
            )
            for item, document in zip(page, data, strict=True):
                yield event(str(item.version), _name(item), document)
                position = position.past(item)
            if len(page) == _PAGE:
                continue
            while not await stream.wait(HEARTBEAT_S):
                yield HEARTBEAT


async def _begin(tenant: str, dialogue_id: str, services: Services) -> Position:
    position = await services.events.begin(tenant, dialogue_id)
    if position is None:
        raise DialogueNotFound(f"no dialogue {dialogue_id!r}")
    return position


def _name(item: Event) -> str:
    return "prediction" if isinstance(item.what, StoredUtterance) else "correction"


def _document(
    dialogue_id: str, item: Event, services: Services
) -> PredictionEvent | CorrectionEvent:
    if isinstance(item.what, StoredUtterance):
        return {
            **utterance_document(dialogue_id, item.what),
            "created_at": item.what.created_at,
        }
    correction = item.what.correction
    return {
        "dialogue_id": dialogue_id,
        "index": item.what.index,
        "correction": None if correction is None else correction_document(correction, services),
    }
