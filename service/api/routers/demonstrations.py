"""Routes of the retrieval base: labelled utterances that the model may be shown."""

import asyncio
import hashlib
import json
from dataclasses import asdict
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Query, Response

from service.access.callers import Caller
from service.access.keys import Scope
from service.admission.deadline import to_the_end
from service.api.bodies.json_bodies import JsonRoute, json_response
from service.api.idempotency import RepeatableDep, no_content
from service.api.limits import check_demonstrations
from service.api.policies import policy
from service.api.problems.answers import documented
from service.api.problems.kinds import (
    ADMISSION_PROBLEMS,
    BODY_PROBLEMS,
    IDEMPOTENCY_PROBLEMS,
    INVALID_REQUEST,
)
from service.api.response_headers import REPLAYED, carrying
from service.api.schemas.demonstrations import (
    DemonstrationIn,
    DemonstrationListing,
    DemonstrationOut,
    DemonstrationPage,
    DemonstrationsIn,
    DemonstrationsOut,
)
from service.api.schemas.names import Identifier
from service.api.services import CallerDep, Services, ServicesDep, TenantDep
from service.conversation.dialogue import Demonstration
from service.conversation.labels import UnknownLabel
from service.demonstrations.encoder import LARGEST_BATCH
from service.errors import (
    DatabaseUnavailable,
    DemonstrationNotFound,
    DemonstrationOfCorrection,
    DemonstrationShared,
    DemonstrationsUnavailable,
    InvalidLabel,
    TooManyDemonstrations,
    UnsupportedLabelSpace,
)
from service.priority import Priority
from service.recognition.supported import known_label_space
from service.sessions.corrections import is_of_correction

router = APIRouter(prefix="/demonstrations", tags=["demonstrations"], route_class=JsonRoute)

DemonstrationId = Annotated[Identifier, Path(examples=["flat-1"])]
Shared = Annotated[
    bool, Query(description="For all tenants; requires a key with the scope `admin`.")
]


@router.get(
    "",
    response_model=DemonstrationPage,
    responses=documented(
        INVALID_REQUEST, *ADMISSION_PROBLEMS, UnsupportedLabelSpace, DemonstrationsUnavailable
    ),
)
@policy(Scope.READ)
async def list_demonstrations(
    listing: Annotated[DemonstrationListing, Query()], tenant: TenantDep, services: ServicesDep
) -> Response:
    """List a page of your own demonstrations and the shared ones, which ship with the service.

    For the next page pass `next` as `after`. Predictions in a derived label space show the
    demonstrations of its source.
    """
    name = listing.label_space
    space = None if name is None else _listed(name, services)
    after = None if listing.after is None else str(listing.after)
    page = await services.store.list(space, listing.limit, after, tenant)
    return json_response(
        {"demonstrations": list(map(asdict, page.demonstrations)), "next": page.next}
    )


@router.post(
    "",
    status_code=201,
    response_model=DemonstrationsOut,
    responses={
        201: carrying(REPLAYED),
        **documented(
            *BODY_PROBLEMS,
            *ADMISSION_PROBLEMS,
            UnsupportedLabelSpace,
            InvalidLabel,
            DemonstrationOfCorrection,
            TooManyDemonstrations,
            *IDEMPOTENCY_PROBLEMS,
            DemonstrationsUnavailable,
            DatabaseUnavailable,
        ),
    },
)
@policy(Scope.WRITE, Priority.BATCH)
async def add_demonstrations(
    body: DemonstrationsIn,
    caller: CallerDep,
    tenant: TenantDep,
    services: ServicesDep,
    request: RepeatableDep,
    shared: Shared = False,
) -> Response:
    """Add demonstrations; the next prediction may already use them.

    They are shown to the model for your utterances only, unless they are `shared`. If one of them
    is refused, none is added. The database is used only for an `Idempotency-Key`.
    """
    owner = _owner(caller, tenant, shared)
    check_demonstrations(body.demonstrations, services.limits, caller.batch_utterances)
    demonstrations = [
        _demonstration(posted, n, services) for n, posted in enumerate(body.demonstrations)
    ]

    def added() -> Response:
        return json_response({"demonstrations": list(map(asdict, demonstrations))}, 201)

    async def add() -> Response:
        if owner is None:
            await _store(demonstrations, owner, services)
        else:
            async with services.corrector.room(owner, len(demonstrations)):
                await _store(demonstrations, owner, services)
        return added()

    return await request.answer(add, again=added)


@router.get(
    "/{demonstration_id}",
    response_model=DemonstrationOut,
    responses=documented(
        INVALID_REQUEST, *ADMISSION_PROBLEMS, DemonstrationNotFound, DemonstrationsUnavailable
    ),
)
@policy(Scope.READ)
async def read_demonstration(
    demonstration_id: DemonstrationId, tenant: TenantDep, services: ServicesDep
) -> Response:
    """Read a demonstration: your own with this id, or else the shared one."""
    return json_response(asdict(await services.store.get(demonstration_id, tenant)))


@router.delete(
    "/{demonstration_id}",
    status_code=204,
    responses={
        204: carrying(REPLAYED),
        **documented(
            INVALID_REQUEST,
            *ADMISSION_PROBLEMS,
            DemonstrationShared,
            DemonstrationNotFound,
            DemonstrationOfCorrection,
            *IDEMPOTENCY_PROBLEMS,
            DemonstrationsUnavailable,
            DatabaseUnavailable,
        ),
    },
)
@policy(Scope.WRITE)
async def delete_demonstration(
    demonstration_id: DemonstrationId,
    caller: CallerDep,
    tenant: TenantDep,
    services: ServicesDep,
    request: RepeatableDep,
    shared: Shared = False,
) -> Response:
    """Delete one of your own demonstrations; no later prompt shows it.

    The demonstration of a correction is deleted by removing the correction.
    """
    owner = _owner(caller, tenant, shared)
    _check_of_no_correction(demonstration_id, "")

    async def delete() -> Response:
        try:
            await services.store.delete(demonstration_id, owner)
        except DemonstrationNotFound:
            if shared:
                raise
            await services.store.get(demonstration_id)
            raise DemonstrationShared(
                f"demonstration {demonstration_id!r} is shared: shared=true deletes it for all"
            ) from None
        return no_content()

    with to_the_end():  # else the work could be done without its response being stored
        return await request.answer(delete)


def _listed(name: str, services: Services) -> str:
    """The label space whose demonstrations prompts show for a label space."""
    derived = services.answerer.derived.get(name.casefold())
    return (derived.source if derived else known_label_space(services.label_spaces, name)).name


def _owner(caller: Caller, tenant: str, shared: bool) -> str | None:
    if not shared:
        return tenant
    caller.require(Scope.ADMIN)
    return None


async def _store(
    demonstrations: list[Demonstration], owner: str | None, services: Services
) -> None:
    vectors = []
    # A batch at a time, so that live utterances are encoded in between.
    for start in range(0, len(demonstrations), LARGEST_BATCH):
        batch = demonstrations[start : start + LARGEST_BATCH]
        vectors += await asyncio.gather(
            *(services.encoder.encode(item.text, Priority.BATCH) for item in batch)
        )
    await services.store.add(demonstrations, np.stack(vectors), tenant=owner)


def _demonstration(posted: DemonstrationIn, number: int, services: Services) -> Demonstration:
    try:
        derived = services.answerer.derived.get(posted.label_space.casefold())
        if derived is not None:
            raise UnsupportedLabelSpace(
                f"{derived.name!r} is derived: name {derived.source.name!r}, whose demonstrations "
                "prompts contain"
            )
        space = known_label_space(services.label_spaces, posted.label_space)
        label = space.label(posted.label).name
    except UnsupportedLabelSpace as error:
        raise UnsupportedLabelSpace(f"demonstration {number}: {error}") from None
    except UnknownLabel as error:
        raise InvalidLabel(f"demonstration {number}: {error}") from None
    identifier = posted.id or _made_id(space.name, label, posted.text)
    _check_of_no_correction(identifier, f"demonstration {number}: ")
    return Demonstration(identifier, space.name, label, posted.text)


def _check_of_no_correction(demonstration_id: str, where: str) -> None:
    if is_of_correction(demonstration_id):
        raise DemonstrationOfCorrection(f"{where}{demonstration_id!r} is a correction's")


def _made_id(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
