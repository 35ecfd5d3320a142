"""Routes for people who check labels: what to check next, and what they have corrected."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Response

from service.access.keys import Scope
from service.api.bodies.json_bodies import JsonRoute, json_response
from service.api.bodies.ndjson import Emit, LineStream, emit_in_pieces
from service.api.cursors import decoded, dialogue_in, encoded, moment_in, number_in
from service.api.links import next_page
from service.api.policies import policy
from service.api.problems.answers import documented, invalid
from service.api.problems.kinds import ADMISSION_PROBLEMS, INVALID_REQUEST
from service.api.request_headers import LINES, NDJSON, Accept, preferred
from service.api.response_headers import LINK, UNBUFFERED, carrying
from service.api.routers.dialogues import timed_utterance_document
from service.api.schemas.reviews import CorrectionsAsked, ReviewListing, UtterancePage
from service.api.schemas.streams import DIALOGUE_LINE
from service.api.services import ServicesDep, TenantDep
from service.conversation.dialogue import Dialogue
from service.dialogue_files import dialogue_to_json
from service.errors import DatabaseUnavailable, UnsupportedLabelSpace
from service.sessions.reviews import CorrectedPortion, ReviewOrder, ReviewPlace

router = APIRouter(tags=["dialogues"], route_class=JsonRoute)

_PROBLEMS = (INVALID_REQUEST, *ADMISSION_PROBLEMS, UnsupportedLabelSpace, DatabaseUnavailable)


@router.get(
    "/utterances",
    response_model=UtterancePage,
    responses={200: carrying(LINK), **documented(*_PROBLEMS)},
)
@policy(Scope.READ)
async def list_utterances(
    query: Annotated[ReviewListing, Query()], tenant: TenantDep, services: ServicesDep
) -> Response:
    """List your utterances across dialogues: those that a person should check next.

    The least certain answers come first. An utterance that a person labels, in whichever label
    space, leaves the list, and is in the one with `corrected=true`. The label space is that of the
    answers: answers in a derived or in the unified label space have lists of their own.
    """
    space = await services.corrector.label_space(tenant, query.label_space)
    reviews = services.sessions.reviews
    after = None if query.cursor is None else _place(query.cursor, query.sort)
    page = await reviews.page(
        tenant, space.name, query.sort, query.limit, after, corrected=query.corrected
    )
    progress = await reviews.progress(tenant, space.name)
    utterances: list[dict[str, Any]] = [
        {
            **timed_utterance_document(each.dialogue_id, each.utterance, services),
            "margin": each.margin,
        }
        for each in page.utterances
    ]
    end = page.end
    following = None if end is None else encoded([end.value, end.dialogue_id, end.index])
    response = json_response(
        {
            "utterances": await services.with_texts(utterances, tenant),
            "next": following,
            "progress": {"utterances": progress.utterances, "corrected": progress.corrected},
        }
    )
    if following is not None:
        path = next_page("/utterances", query, cursor=following)
        response.headers[LINK] = f'<{path}>; rel="next"'
    return response


@router.get(
    "/corrections",
    response_class=LineStream,
    status_code=200,
    responses={
        200: {
            "description": "One dialogue per line",
            "content": {NDJSON: {"itemSchema": DIALOGUE_LINE}},
            **carrying(*UNBUFFERED),
        },
        **documented(*_PROBLEMS),
    },
)
@policy(Scope.READ)
async def export_corrections(
    query: Annotated[CorrectionsAsked, Query()],
    tenant: TenantDep,
    services: ServicesDep,
    accept: Accept = None,
) -> Response:
    """Export what people corrected, as NDJSON that `instructerc-train` takes.

    Each line is a whole dialogue with corrections in the label space, in the order of ids. Only
    corrected utterances have a `label`, which is the person's; the others are their context. With
    `updated_since`, a dialogue still has all of its labels, also the earlier ones.
    """
    space = await services.corrector.label_space(tenant, query.label_space)
    portions = services.sessions.reviews.corrected(tenant, space.name, query.updated_since)

    async def produce(emit: Emit) -> None:
        async for portion in portions:
            await emit_in_pieces(emit, _json_of(portion))

    return LineStream(produce, preferred(accept, LINES))


def _json_of(portion: CorrectedPortion) -> bytes:
    """A portion's part of its dialogue's line."""
    lines = dialogue_to_json(Dialogue(portion.dialogue_id, portion.utterances))["utterances"]
    begin = b'{"id":%b,"utterances":[' % orjson.dumps(portion.dialogue_id)
    return b"".join(
        (
            begin if portion.first else b",",
            b",".join(map(orjson.dumps, lines)),
            b"]}\n" if portion.last else b"",
        )
    )


def _place(cursor: str, order: ReviewOrder) -> ReviewPlace:
    """The place that a page's `next` is.

    Raises:
        RequestValidationError: it is none, or one of another order.
    """
    try:
        value, dialogue_id, index = decoded(cursor)
        if type(index) is not int or not 0 <= index < 2**31:
            raise ValueError("no index")
        key = moment_in(value) if order is ReviewOrder.NEWEST else number_in(value)
        return ReviewPlace(key, dialogue_in(dialogue_id), index)
    except (ValueError, TypeError):
        detail = "must be the `next` of a page with the same `sort`"
        raise invalid("cursor", detail=detail, source="query") from None
