"""Routes of label spaces: those that ship and those of a tenant."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from service.access.keys import Scope
from service.admission.deadline import to_the_end
from service.api.bodies.json_bodies import JsonRoute, json_response
from service.api.idempotency import RepeatableDep, no_content
from service.api.limits import check_label_space
from service.api.policies import policy
from service.api.problems.answers import documented
from service.api.problems.kinds import (
    ADMISSION_PROBLEMS,
    BODY_PROBLEMS,
    IDEMPOTENCY_PROBLEMS,
    INVALID_REQUEST,
)
from service.api.response_headers import REPLAYED, carrying
from service.api.schemas.label_spaces import (
    LabelSpaceIn,
    LabelSpaceOut,
    LabelSpacePut,
    LabelSpacesOut,
)
from service.api.schemas.names import Identifier, OwnLabelSpaceName
from service.api.services import CallerDep, Services, ServicesDep, TenantDep
from service.conversation.derived import DerivedLabelSpace
from service.conversation.few_shot import OwnLabel, OwnLabels, OwnLabelSpace
from service.conversation.labels import LabelSpace
from service.decoding.bundle import Bundle
from service.dialogues.own_label_spaces import Put
from service.errors import (
    DatabaseUnavailable,
    DemonstrationsUnavailable,
    EngineUnavailable,
    InvalidLabelSpace,
    LabelsNotApart,
    LabelSpaceNotFound,
    LabelSpaceShipped,
    TooManyLabelSpaces,
    UnsupportedLabelSpace,
)
from service.priority import Priority
from service.recognition.answering import AnswerSpace, is_available

_NOT_OWN = {"sentence": None, "examples": None}

router = APIRouter(prefix="/label-spaces", tags=["label spaces"], route_class=JsonRoute)


@router.get(
    "",
    response_model=LabelSpacesOut,
    responses=documented(*ADMISSION_PROBLEMS, DatabaseUnavailable),
)
@policy(Scope.READ)
async def list_label_spaces(tenant: TenantDep, services: ServicesDep) -> Response:
    """List the label spaces visible to you; predictions can use those that are `available`."""
    bundle = services.answerer.bundle
    spaces: tuple[AnswerSpace | OwnLabels, ...] = (
        *services.label_spaces.values(),
        *services.answerer.derived.values(),
        *await services.own_label_spaces.all(tenant),
    )
    return json_response(
        {
            "languages": bundle.languages,
            "label_spaces": [_document(space, bundle) for space in spaces],
        }
    )


@router.get(
    "/{name}",
    response_model=LabelSpaceOut,
    responses=documented(
        INVALID_REQUEST, *ADMISSION_PROBLEMS, LabelSpaceNotFound, DatabaseUnavailable
    ),
)
@policy(Scope.READ)
async def read_label_space(
    name: Annotated[Identifier, Path(examples=["callers"])],
    tenant: TenantDep,
    services: ServicesDep,
) -> Response:
    """Read a shipped label space, or one of your own with its examples."""
    key = name.casefold()
    space: AnswerSpace | OwnLabels | None = services.label_spaces.get(key)
    space = space or services.answerer.derived.get(key)
    space = space or await services.own_label_spaces.described(tenant, key)
    if space is None:
        raise LabelSpaceNotFound(f"there is no label space {name!r}")
    return json_response(_document(space, services.answerer.bundle, with_examples=True))


@router.put(
    "/{name}",
    response_model=LabelSpacePut,
    responses={
        200: carrying(REPLAYED),
        **documented(
            *BODY_PROBLEMS,
            *ADMISSION_PROBLEMS,
            LabelSpaceShipped,
            UnsupportedLabelSpace,
            InvalidLabelSpace,
            LabelsNotApart,
            TooManyLabelSpaces,
            *IDEMPOTENCY_PROBLEMS,
            EngineUnavailable,
            DemonstrationsUnavailable,
            DatabaseUnavailable,
        ),
    },
)
@policy(Scope.ADMIN, Priority.BATCH)
async def put_label_space(
    name: OwnLabelSpaceName,
    body: LabelSpaceIn,
    caller: CallerDep,
    tenant: TenantDep,
    services: ServicesDep,
    request: RepeatableDep,
) -> Response:
    """Create or replace a label space of your own; requires a key with the scope `admin`.

    It needs no training: each label has a sentence and at least 3 examples, and an utterance is
    classified by its similarity to these and by the model's prediction in its own labels. The
    probabilities are calibrated on the examples, each left out in turn. If they do not tell the
    labels apart, the label space is refused, and the detail says which labels are confused. After
    the response every process accepts it wherever it takes a label space, except in forecasts;
    corrections in it are stored but do not become demonstrations. Each example counts as an
    utterance.

    With `derived_from`, each label is a sum of labels of a trained label space: exact and free.
    """
    count = check_label_space(body, services.limits, caller.batch_utterances)

    async def put() -> Response:
        if count:
            caller.spend_utterances(count)
        return json_response(_put_document(await _put(name, body, tenant, services)))

    return await request.answer(put)


@router.delete(
    "/{name}",
    status_code=204,
    responses={
        204: carrying(REPLAYED),
        **documented(
            INVALID_REQUEST,
            *ADMISSION_PROBLEMS,
            LabelSpaceShipped,
            LabelSpaceNotFound,
            *IDEMPOTENCY_PROBLEMS,
            DatabaseUnavailable,
        ),
    },
)
@policy(Scope.ADMIN)
async def delete_label_space(
    name: Annotated[Identifier, Path(examples=["callers"])],
    caller: CallerDep,
    tenant: TenantDep,
    services: ServicesDep,
    request: RepeatableDep,
) -> Response:
    """Erase a label space of your own with its examples; requires a key with the scope `admin`.

    No later prediction uses it, and the remaining dialogues of a job that uses it get an error.
    Stored predictions in it remain until their dialogue or job is erased.
    """

    async def delete() -> Response:
        await services.own_label_spaces.delete(tenant, name.casefold())
        return no_content()

    with to_the_end():  # else the work could be done without its response being stored
        return await request.answer(delete)


async def _put(name: str, body: LabelSpaceIn, tenant: str, services: Services) -> Put:
    title = body.title or name
    if body.derived_from is None:
        labels = [
            OwnLabel(label.name, label.sentence or "", tuple(label.examples or ()))
            for label in body.labels
        ]
        return await services.own_label_spaces.put_examples(tenant, name, title, labels)
    sums = {
        label.name: label.of if isinstance(label.of, dict) else dict.fromkeys(label.of or (), 1.0)
        for label in body.labels
    }
    return await services.own_label_spaces.put_sums(tenant, name, title, body.derived_from, sums)


def _put_document(put: Put) -> dict[str, Any]:
    """Without examples and sentences, which a response stored for an `Idempotency-Key` omits."""
    space, scores = put.label_space, put.left_out
    left_out = None
    if scores is not None and isinstance(space, OwnLabelSpace):
        left_out = {
            "accuracy": scores.accuracy,
            "calibration_error": scores.calibration_error,
            "labels": [
                {"name": label.name, "examples": len(label.examples), "recognized": recognized}
                for label, recognized in zip(space.labels, scores.recognized, strict=True)
            ],
        }
    return {
        "name": space.name,
        "title": space.title,
        "derived_from": space.source.name if isinstance(space, DerivedLabelSpace) else None,
        "trained": isinstance(space, DerivedLabelSpace),
        "left_out": left_out,
    }


def _document(
    space: AnswerSpace | OwnLabels, bundle: Bundle, *, with_examples: bool = False
) -> dict[str, Any]:
    return {
        "name": space.name,
        "title": space.title,
        "derived_from": space.source.name if isinstance(space, DerivedLabelSpace) else None,
        "available": is_available(bundle, space),
        "trained": not isinstance(space, OwnLabels),
        "labels": _labels(space, with_examples),
    }


def _labels(space: AnswerSpace | OwnLabels, with_examples: bool) -> list[dict[str, Any]]:
    if isinstance(space, LabelSpace):
        return [{**asdict(label), "of": None, **_NOT_OWN} for label in space.labels]
    if isinstance(space, DerivedLabelSpace):
        return [
            {
                "name": label.name,
                "verbalizer": None,
                "unified": label.unified,
                "of": dict(label.of),
                **_NOT_OWN,
            }
            for label in space.labels
        ]
    return [
        {
            "name": label.name,
            "verbalizer": None,
            "unified": None,
            "of": None,
            "sentence": label.sentence,
            "examples": list(label.examples) if with_examples else None,
        }
        for label in space.labels
    ]
