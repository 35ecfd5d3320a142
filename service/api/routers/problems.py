"""Routes that document the kinds of problems."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Path, Response
from starlette.exceptions import HTTPException

from service.api.bodies.json_bodies import json_response
from service.api.links import located
from service.api.policies import policy
from service.api.problems.answers import documented
from service.api.problems.kinds import INVALID_REQUEST, KINDS, NO_SUCH_PATH, OPEN_PROBLEMS, Kind
from service.api.schemas.problems import ProblemKindOut, ProblemKindsOut

router = APIRouter(prefix="/problems", tags=["problems"])

Name = Annotated[
    str,
    Path(
        pattern="^[a-z-]{1,50}$",
        description="The last segment of the type.",
        examples=["dialogue-not-found"],
    ),
]


@router.get("", response_model=ProblemKindsOut, responses=documented(*OPEN_PROBLEMS))
@policy(None)
async def list_problems() -> Response:
    """List every kind of problem, with its cause and remedy."""
    return json_response({"problems": [_document(kind) for kind in KINDS.values()]})


@router.get(
    "/{name}",
    response_model=ProblemKindOut,
    responses=documented(INVALID_REQUEST, NO_SUCH_PATH, *OPEN_PROBLEMS),
)
@policy(None)
async def read_problem(name: Name) -> Response:
    """Read the kind of problem that a problem document's `type` names."""
    kind = KINDS.get(name)
    if kind is None:
        raise HTTPException(NO_SUCH_PATH.status)
    return json_response(_document(kind))


def _document(kind: Kind) -> Mapping[str, str | int]:
    return {
        "type": located(kind.type),
        "status": kind.status,
        "title": kind.title,
        "cause": kind.cause,
        "remedy": kind.remedy,
    }
