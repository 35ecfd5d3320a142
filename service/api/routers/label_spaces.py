"""Routes of label spaces: those that ship and those of a tenant."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from service.access.keys import Scope
from service.admission.patience import to_the_end
from service.api.bodies.json_bodies import JsonRoute, json_response
from service.api.idempotency import RepeatableDep
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
from service.recognition.own import OwnLabel, OwnLabels, OwnLabelSpace

_NOT_OWN = {"sentence": None, "examples": None}

router = APIRouter(prefix="/label-spaces", tags=["label spaces"], route_class=JsonRoute)


@router.get(
    "",
    response_model=LabelSpacesOut,
    responses=documented(*ADMISSION_PROBLEMS, DatabaseUnavailable),
)
@policy(Scope.READ)
async def list_label_spaces(tenant: TenantDep, services: ServicesDep) -> Response:
    """Every label space there is for you; those that are `available` can be asked for."""
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
    """A label space that ships, or one of your own with its examples."""
    known = name.casefold()
    found: AnswerSpace | OwnLabels | None = services.label_spaces.get(known)
    found = found or services.answerer.derived.get(known)
    found = found or await services.own_label_spaces.described(tenant, known)
    if found is None:
        raise LabelSpaceNotFound(f"there is no label space {name!r}")
    return json_response(_document(found, services.answerer.bundle, whole=True))


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
    given: LabelSpaceIn,
    caller: CallerDep,
    tenant: TenantDep,
    services: ServicesDep,
    request: RepeatableDep,
) -> Response:
    """Make a label space of your own, in place of the one with this name; it takes an admin's key.

    Without training: each label has a sentence and from 3 examples, and an utterance is told by its
    own likeness to these and by what the model says of it in its own labels. The probabilities are
    calibrated on the examples, each left out in turn. Where these are not told apart then, the
    label space is refused and the detail says which labels are in each other's way. It may be named
    wherever a label space is, but in forecasts, in every process from the answer on; corrections in
    it are kept and become no demonstration. Each example counts as an utterance.

    With `derived_from`, each label is a sum of the labels of a trained one: exact and free.
    """
    count = check_label_space(given, services.limits, caller.batch_utterances)

    async def put() -> Response:
        if count:
            caller.spend_utterances(count)
        return json_response(_put_document(await _put(name, given, tenant, services)))

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
    """Erase a label space of your own with its examples; it takes an admin's key.

    Nobody is answered in it from then on, and the dialogues of a job that are still to be scored in
    it get an error. What was answered in it before stays where it is stored, until its dialogue or
    job is erased.
    """

    async def delete() -> Response:
        await services.own_label_spaces.delete(tenant, name.casefold())
        return Response(status_code=204)

    with to_the_end():  # or the answer might not be kept of what is done
        return await request.answer(delete)


async def _put(name: str, given: LabelSpaceIn, tenant: str, services: Services) -> Put:
    title = given.title or name
    if given.derived_from is None:
        labels = [
            OwnLabel(each.name, each.sentence or "", tuple(each.examples or ()))
            for each in given.labels
        ]
        return await services.own_label_spaces.put_examples(tenant, name, title, labels)
    sums = {
        each.name: each.of if isinstance(each.of, dict) else dict.fromkeys(each.of or (), 1.0)
        for each in given.labels
    }
    return await services.own_label_spaces.put_sums(tenant, name, title, given.derived_from, sums)


def _put_document(put: Put) -> dict[str, Any]:
    """Without examples and sentences: what is kept for an `Idempotency-Key` holds none."""
    space, found = put.label_space, put.left_out
    left_out = None
    if found is not None and isinstance(space, OwnLabelSpace):
        left_out = {
            "accuracy": found.accuracy,
            "calibration_error": found.calibration_error,
            "labels": [
                {"name": label.name, "examples": len(label.examples), "recognized": recognized}
                for label, recognized in zip(space.labels, found.recognized, strict=True)
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
    space: AnswerSpace | OwnLabels, bundle: Bundle, *, whole: bool = False
) -> dict[str, Any]:
    return {
        "name": space.name,
        "title": space.title,
        "derived_from": space.source.name if isinstance(space, DerivedLabelSpace) else None,
        "available": is_available(bundle, space),
        "trained": not isinstance(space, OwnLabels),
        "labels": _labels(space, whole),
    }


def _labels(space: AnswerSpace | OwnLabels, whole: bool) -> list[dict[str, Any]]:
    if isinstance(space, LabelSpace):
        return [{**asdict(each), "of": None, **_NOT_OWN} for each in space.labels]
    if isinstance(space, DerivedLabelSpace):
        return [
            {
                "name": each.name,
                "verbalizer": None,
                "unified": each.unified,
                "of": dict(each.of),
                **_NOT_OWN,
            }
            for each in space.labels
        ]
    return [
        {
            "name": each.name,
            "verbalizer": None,
            "unified": None,
            "of": None,
            "sentence": each.sentence,
            "examples": list(each.examples) if whole else None,
        }
        for each in space.labels
    ]
