"""Routes of what dialogues were like: the list of them, and the summary of one."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.access.keys import Scope
from service.api.bodies.json_bodies import JsonRoute, json_response
from service.api.cursors import decoded, dialogue_in, encoded, moment_in, number_in
from service.api.limits import check_listing
from service.api.links import next_page
from service.api.policies import policy
from service.api.problems.answers import documented, invalid
from service.api.problems.kinds import ADMISSION_PROBLEMS, INVALID_REQUEST
from service.api.request_headers import IfNoneMatch, etag
from service.api.response_headers import ETAG, KEPT_BY_CLIENTS, LINK, carrying
from service.api.routers.utterances import DialogueId
from service.api.schemas.summaries import (
    DialogueListing,
    DialogueOverview,
    DialoguePage,
    SummaryOut,
    summary_document,
)
from service.api.services import ServicesDep, TenantDep
from service.conversation.labels import UNIFIED
from service.errors import DatabaseUnavailable, DialogueNotFound
from service.sessions.overviews import Conditions, LabelCondition, Order, Overview, Place

router = APIRouter(prefix="/dialogues", tags=["dialogues"], route_class=JsonRoute)


@router.get(
    "",
    response_model=DialoguePage,
    responses={
        200: carrying(LINK),
        **documented(INVALID_REQUEST, *ADMISSION_PROBLEMS, DatabaseUnavailable),
    },
)
@policy(Scope.READ)
async def list_dialogues(
    query: Annotated[DialogueListing, Query()], tenant: TenantDep, services: ServicesDep
) -> Response:
    """List your dialogues: the last written to first, or those with the worst valence.

    `next`, in the body and in the header `Link`, leads to the next page. A page looks through a
    bounded number of dialogues, so with conditions it may have few or none before the last one. A
    dialogue that is written to while you read the pages may move and show twice, or not at all.
    """
    check_listing(query, services.limits)
    after = None if query.after is None else _place(query.after, query.sort)
    overviews = services.sessions.overviews
    page = await overviews.page(tenant, query.sort, query.limit, after, _conditions(query))
    following = None if page.end is None else _next(query, page.end)
    document: DialoguePage = {
        "dialogues": [_overview_document(overview) for overview in page.dialogues],
        "next": following,
    }
    response = json_response(document)
    if following is not None:
        response.headers[LINK] = f'<{following}>; rel="next"'
    return response


@router.get(
    "/{dialogue_id}/summary",
    response_model=SummaryOut,
    responses={
        200: carrying(ETAG),
        304: {"description": "The dialogue has not changed", **carrying(ETAG)},
        **documented(INVALID_REQUEST, *ADMISSION_PROBLEMS, DialogueNotFound, DatabaseUnavailable),
    },
)
@policy(Scope.READ)
async def summarize_dialogue(
    dialogue_id: DialogueId, tenant: TenantDep, services: ServicesDep, cached: IfNoneMatch
) -> Response:
    """Summarize a dialogue: shares of labels, valence and its shift, peaks, the longest runs.

    Utterances are counted in the label space of their answers. A person's label in that label space
    counts in place of the predicted one, with a probability of 1; in another label space it counts
    for the valence alone. Shares have 95% Wilson intervals, which treat utterances as independent.
    """
    if cached is not None:
        version = await services.sessions.version(tenant, dialogue_id)
        if version is not None and cached.allows(version):
            return Response(status_code=304, headers={ETAG: etag(version), **KEPT_BY_CLIENTS})
    version, summary = await services.summarizer.stored(tenant, dialogue_id)
    document: SummaryOut = {"dialogue_id": dialogue_id, **summary_document(summary)}
    response = json_response(document)
    response.headers.update({ETAG: etag(version), **KEPT_BY_CLIENTS})
    return response


def _conditions(query: DialogueListing) -> Conditions:
    label = None
    if query.label is not None:
        label = LabelCondition(
            (query.label_space or UNIFIED).casefold(),
            query.label.casefold(),
            query.min_share or 0.0,
            query.min_probability or 0.0,
        )
    return Conditions(query.updated_since, label, query.speaker, query.role)


def _overview_document(overview: Overview) -> DialogueOverview:
    return {
        "id": overview.id,
        "created_at": overview.created_at,
        "updated_at": overview.changed_at,
        "utterances": overview.length,
        "speakers": overview.speaker_count,
        "valence": overview.valence,
        "shift": overview.shift,
    }


def _next(query: DialogueListing, end: Place) -> str:
    """The path of the next page of a list."""
    return next_page("/dialogues", query, after=encoded([end.value, end.dialogue_id]))


def _place(after: str, order: Order) -> Place:
    """The place that `_next` wrote.

    Raises:
        RequestValidationError: it is none, or one of another order.
    """
    try:
        value, dialogue_id = decoded(after)
        key = moment_in(value) if order is Order.UPDATED else number_in(value)
        return Place(key, dialogue_in(dialogue_id))
    except (ValueError, TypeError):
        detail = "must be that of the `next` of a page with the same `sort`"
        raise invalid("after", detail=detail, source="query") from None
