"""Which status and which problem document an error becomes (RFC 9457)."""

import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil
from typing import Any, Literal

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from service import errors

PROBLEM_JSON = "application/problem+json"
PROBLEM = "problem"
"""Where a request's state has the type of the problem that it was answered with."""
RETRY_AFTER_S = 1

_WORTH_A_RETRY = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)

# A body may hold thousands of faults; the first ones tell enough.
_FAULTS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem; its type, status and title are the same whenever it occurs."""

    name: str
    status: int
    title: str

    @property
    def type(self) -> str:
        return f"/problems/{self.name}"


class Fault(BaseModel):
    """One thing wrong with a request, and where."""

    model_config = ConfigDict(extra="forbid")

    pointer: str | None = Field(
        None, description="JSON pointer into the body (RFC 6901)", examples=["/utterances/0/text"]
    )
    parameter: str | None = Field(None, description="name of the path, query or header parameter")
    detail: str


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description="identifies the kind of problem")
    title: str = Field(description="the kind of problem, in words")
    status: int
    detail: str = Field(description="what is wrong this time")
    request_id: str | None = Field(None, description="as in the header X-Request-Id")
    errors: list[Fault] | None = Field(None, description="of an invalid request: what to mend")
    checks: dict[str, str] | None = Field(None, description="of /readyz: how each part is")


def _of(error: type[errors.ServiceError], status: int, title: str) -> Kind:
    return Kind(re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__).lower(), status, title)


PROBLEMS: Mapping[type[errors.ServiceError], Kind] = {
    error: _of(error, status, title)
    for error, status, title in (
        (errors.Unauthenticated, 401, "A key is needed"),
        (errors.ScopeMissing, 403, "The key is not for this"),
        (errors.QuotaExceeded, 429, "The key has used up its quota"),
        (errors.DialogueNotFound, 404, "No such dialogue"),
        (errors.UtteranceNotFound, 404, "No such utterance"),
        (errors.CorrectionNotFound, 404, "No such correction"),
        (errors.DemonstrationNotFound, 404, "No such demonstration"),
        (errors.JobNotFound, 404, "No such job"),
        (errors.TooManyJobs, 429, "There are too many jobs"),
        (errors.DemonstrationShared, 403, "The demonstration is everybody's"),
        (errors.UnsupportedLabelSpace, 422, "The label space cannot be used"),
        (errors.ForecastNotSupported, 422, "The model was not trained to forecast"),
        (errors.InvalidLabel, 422, "The label space has no such label"),
        (errors.UtteranceTooLong, 422, "The utterance is longer than the model reads"),
        (errors.DialogueChanged, 412, "The dialogue has changed"),
        (errors.IdempotencyKeyReused, 409, "The idempotency key is another request's"),
        (errors.DialogueBusy, 503, "Others keep appending to the dialogue"),
        (errors.Overloaded, 503, "The service has as much to do as it can"),
        (errors.ShuttingDown, 503, "The service is about to end"),
        (errors.DeadlinePassed, 504, "There was no answer in time"),
        (errors.ClientLeft, 499, "The client has left"),
        (errors.EngineUnavailable, 503, "The label engine does not answer"),
        (errors.DemonstrationsUnavailable, 503, "The demonstrations do not answer"),
        (errors.DatabaseUnavailable, 503, "The database does not answer"),
    )
}

MALFORMED_JSON = Kind("malformed-json", 400, "The body is not JSON")
INVALID_REQUEST = Kind("invalid-request", 422, "The request is not valid")
BODY_TOO_LARGE = Kind("body-too-large", 413, "The body is larger than the service takes")
NOT_JSON = Kind("unsupported-media-type", 415, "The body is not declared as JSON")
NO_SUCH_PATH = Kind("no-such-path", 404, "There is nothing at this path")
METHOD_NOT_ALLOWED = Kind("method-not-allowed", 405, "The path does not take this method")
NOT_ACCEPTABLE = Kind("not-acceptable", 406, "The answer has none of the accepted media types")
NOT_READY = Kind("not-ready", 503, "A part of the service does not answer")
NOT_ALIVE = Kind("not-alive", 503, "The service must be started anew")
INTERNAL_ERROR = Kind("internal-error", 500, "The service failed")

KINDS = (
    *PROBLEMS.values(),
    MALFORMED_JSON,
    INVALID_REQUEST,
    BODY_TOO_LARGE,
    NOT_JSON,
    NO_SUCH_PATH,
    METHOD_NOT_ALLOWED,
    NOT_ACCEPTABLE,
    NOT_READY,
    NOT_ALIVE,
    INTERNAL_ERROR,
)

# What any call with a body may be refused for, before it is looked at more closely.
BODY_PROBLEMS = (MALFORMED_JSON, BODY_TOO_LARGE, NOT_JSON, INVALID_REQUEST)

# What any call that is not open to all may be refused for, before it is looked at.
KEY_PROBLEMS = (errors.Unauthenticated, errors.ScopeMissing, errors.QuotaExceeded)

# What any call but those of operations may be refused for, however good it is.
ADMISSION_PROBLEMS = (
    *KEY_PROBLEMS,
    errors.Overloaded,
    errors.ShuttingDown,
    errors.DeadlinePassed,
)

_BY_STATUS = {kind.status: kind for kind in (BODY_TOO_LARGE, NOT_JSON, NOT_ACCEPTABLE)}


def problem(kind: Kind, detail: str, **members: Any) -> dict[str, Any]:
    """A problem document; `members` are those that not every problem has."""
    return {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        **members,
    }


def problem_of(error: errors.ServiceError) -> dict[str, Any]:
    """The problem document of one of our errors."""
    return problem(PROBLEMS[type(error)], str(error))


def problem_answer(
    request_id: str,
    kind: Kind,
    detail: str,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    """A problem as a whole answer."""
    headers = dict(headers or {})
    if kind.status in _WORTH_A_RETRY:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    body = problem(kind, detail, request_id=request_id, **members)
    return _ProblemAnswer(kind, orjson.dumps(body), headers)


class _ProblemAnswer(Response):
    """Leaves the problem's type in the state of the request that it answers, for who counts."""

    def __init__(self, kind: Kind, body: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(body, kind.status, headers, PROBLEM_JSON)
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"][PROBLEM] = self._kind.type
        await super().__call__(scope, receive, send)


def invalid(
    *where: str | int, detail: str, source: Literal["body", "query", "header"] = "body"
) -> RequestValidationError:
    """A fault that only the settings or a second look can find.

    Args:
        where: the way to it in the body, `"utterances", 0, "text"`, or the parameter's name.
    """
    return RequestValidationError([{"loc": (source, *where), "msg": detail, "type": "invalid"}])


def documented(*causes: Kind | type[errors.ServiceError]) -> dict[int | str, dict[str, Any]]:
    """A route's `responses=`, from the table that the handlers read."""
    kinds = [cause if isinstance(cause, Kind) else PROBLEMS[cause] for cause in causes]
    return {
        status: {
            "description": "; ".join(kind.title for kind in kinds if kind.status == status),
            "content": {
                PROBLEM_JSON: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {
                        kind.name: {"value": problem(kind, "...", request_id="...")}
                        for kind in kinds
                        if kind.status == status
                    },
                }
            },
        }
        for status in sorted({kind.status for kind in kinds})
    }


def answer_of(request_id: str, error: errors.ServiceError) -> Response:
    """One of our errors as a whole answer."""
    return problem_answer(request_id, PROBLEMS[type(error)], str(error), _headers_of(error))


def _headers_of(error: errors.ServiceError) -> dict[str, str]:
    match error:
        case errors.ShuttingDown():
            return {"Connection": "close"}
        case errors.Unauthenticated():
            return {"WWW-Authenticate": "Bearer"}
        case errors.ScopeMissing(scope=scope):  # RFC 6750
            return {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
        case errors.QuotaExceeded(retry_after_s=seconds):
            return {"Retry-After": str(max(1, ceil(seconds)))}
    return {}


async def _on_service_error(request: Request, error: errors.ServiceError) -> Response:
    request.state.refusal = error
    return answer_of(request.state.request_id, error)


async def _on_invalid_request(request: Request, error: RequestValidationError) -> Response:
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        detail = f"{found[0]['ctx']['error']} (at character {found[0]['loc'][1]})"
        return problem_answer(request.state.request_id, MALFORMED_JSON, detail)
    members = invalid_problem(found)
    detail, faults = members["detail"], members["errors"]
    return problem_answer(request.state.request_id, INVALID_REQUEST, detail, errors=faults)


def invalid_problem(found: Sequence[Any], prefix: str = "") -> dict[str, Any]:
    """The problem document of what is not valid, as pydantic says it."""
    faults = [_fault(one["loc"], one["msg"]) for one in found[:_FAULTS_SHOWN]]
    first = faults[0]
    detail = f"{first.get('pointer') or first.get('parameter') or 'body'}: {first['detail']}"
    if len(found) > 1:
        detail += f" (and {len(found) - 1} more)"
    return problem(INVALID_REQUEST, prefix + detail, errors=faults)


def _fault(where: Sequence[str | int], detail: str) -> dict[str, str]:
    # Never the value itself: it may be long, and it is somebody's words.
    source, *steps = where
    if source != "body":
        return {"parameter": str(steps[0]), "detail": detail}
    escaped = (str(step).replace("~", "~0").replace("/", "~1") for step in steps)
    return {"pointer": "".join(f"/{step}" for step in escaped), "detail": detail}


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    request_id = request.state.request_id
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return problem_answer(request_id, NO_SUCH_PATH, "see /docs for the paths there are")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(_methods(request))
            detail = f"it takes {allowed}"
            return problem_answer(request_id, METHOD_NOT_ALLOWED, detail, {"Allow": allowed})
        case status:
            kind = _BY_STATUS.get(status) or _by_phrase(status)
            return problem_answer(request_id, kind, str(error.detail), error.headers)


def _methods(request: Request) -> list[str]:
    # Starlette itself names only those of the first route with this path.
    routes = (r for r in request.app.routes if r.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in routes for method in route.methods})


def _by_phrase(status: int) -> Kind:
    phrase = HTTPStatus(status).phrase
    return Kind(phrase.lower().replace(" ", "-"), status, phrase)


# What FastAPI calls for the errors that are foreseen.
HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    errors.ServiceError: _on_service_error,
    RequestValidationError: _on_invalid_request,
    HTTPException: _on_http_exception,
}
