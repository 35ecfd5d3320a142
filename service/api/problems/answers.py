"""Problem documents (RFC 9457) for errors, and the exception handlers that send them."""

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
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
from service.api.links import located, with_prefix
from service.api.problems.kinds import (
    FOREIGN,
    INVALID_REQUEST,
    MALFORMED_JSON,
    METHOD_NOT_ALLOWED,
    NO_SUCH_PATH,
    PROBLEMS,
    WORTH_A_RETRY,
    Kind,
    kind_of,
)
from service.api.response_headers import AUTHENTICATE, CONNECTION, RETRY_AFTER
from service.failures import cause_of_ours
from service.observability.correlation import is_first, request_id

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
PROBLEM = "problem"
"""The key in a request's state under which its response stores the problem's type."""
RETRY_AFTER_S = 1

# A body may have thousands of faults; the first ones suffice.
_FAULTS_SHOWN = 20


class Fault(BaseModel):
    """One fault of a request, and where it is."""

    model_config = ConfigDict(extra="forbid")

    pointer: str | None = Field(
        None,
        description="JSON pointer to the value in the body (RFC 6901)",
        examples=["/utterances/0/text"],
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
    errors: list[Fault] | None = Field(None, description="of an invalid request: what to correct")
    checks: dict[str, str] | None = Field(None, description="of /readyz: the state of each part")


def problem(kind: Kind, detail: str, **members: Any) -> dict[str, Any]:
    """A problem document, with optional `members`."""
    return {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        **members,
    }


def problem_of(error: errors.ServiceError) -> dict[str, Any]:
    """The problem document of one of the service's errors."""
    _log_cause(error)
    return problem(kind_of(error), str(error))


def problem_response(
    request_id: str,
    kind: Kind,
    detail: str,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    """A problem as a response."""
    headers = dict(headers or {})
    if kind.status in WORTH_A_RETRY:
        headers[RETRY_AFTER] = str(RETRY_AFTER_S)
    body = with_prefix(problem(kind, detail, request_id=request_id, **members))
    return _ProblemResponse(kind, orjson.dumps(body), headers)


class _ProblemResponse(Response):
    """A response that stores the problem's type in the request's state, for the metrics."""

    def __init__(self, kind: Kind, body: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(body, kind.status, headers, PROBLEM_JSON)
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"][PROBLEM] = self._kind.type
        await super().__call__(scope, receive, send)


def invalid(
    *where: str | int, detail: str, source: Literal["body", "query", "header"] = "body"
) -> RequestValidationError:
    """An error for a fault that the schema cannot express, such as a configured limit.

    Args:
        where: the path in the body, `"utterances", 0, "text"`, or the parameter's name.
    """
    return RequestValidationError([{"loc": (source, *where), "msg": detail, "type": "invalid"}])


def malformed(error: orjson.JSONDecodeError) -> RequestValidationError:
    """The error that FastAPI raises for a body that is not JSON."""
    fault = {"type": "json_invalid", "loc": ("body", error.pos), "ctx": {"error": error.msg}}
    return RequestValidationError([fault])


def documented(*causes: Kind | type[errors.ServiceError]) -> dict[int | str, dict[str, Any]]:
    """A route's `responses=`, from the same table as the exception handlers."""
    kinds = [cause if isinstance(cause, Kind) else PROBLEMS[cause] for cause in causes]
    return {
        status: {
            "description": "; ".join(kind.title for kind in kinds if kind.status == status),
            "content": {
                PROBLEM_JSON: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {
                        kind.name: {
                            "summary": kind.title,
                            "description": f"{kind.cause} {kind.remedy}",
                            "value": problem(kind, "...", request_id="..."),
                        }
                        for kind in kinds
                        if kind.status == status
                    },
                }
            },
        }
        for status in sorted({kind.status for kind in kinds})
    }


def response_of(request_id: str, error: errors.ServiceError) -> Response:
    """One of the service's errors as a response."""
    _log_cause(error)
    return problem_response(request_id, kind_of(error), str(error), _headers_of(error))


def _log_cause(error: errors.ServiceError) -> None:
    """Log why a part is unavailable, which operators must know but clients are not told.

    Once per request: a batch may meet the same error in each of its dialogues.
    """
    if not isinstance(error, errors.Unavailable) or not is_first(str(error)):
        return
    current_id, cause = request_id(), cause_of_ours(error)
    log.error(
        "%s%s%s",
        "" if current_id is None else f"request {current_id}: ",
        error,
        f": {cause}" if cause else "",
    )


def _headers_of(error: errors.ServiceError) -> dict[str, str]:
    match error:
        case errors.ShuttingDown():
            return {CONNECTION: "close"}
        case errors.Unauthenticated():
            return {AUTHENTICATE: "Bearer"}
        case errors.ScopeMissing(scope=scope):  # RFC 6750
            return {AUTHENTICATE: f'Bearer error="insufficient_scope", scope="{scope}"'}
        case errors.QuotaExceeded(retry_after_s=seconds):
            return {RETRY_AFTER: str(max(1, ceil(seconds)))}
    return {}


async def _on_service_error(request: Request, error: errors.ServiceError) -> Response:
    request.state.refusal = error
    return response_of(request.state.request_id, error)


async def _on_invalid_request(request: Request, error: RequestValidationError) -> Response:
    validation_errors = error.errors()
    first = validation_errors[0]
    if first["type"] == "json_invalid":
        detail = f"{first['ctx']['error']} (at character {first['loc'][1]})"
        return problem_response(request.state.request_id, MALFORMED_JSON, detail)
    document = invalid_problem(validation_errors)
    detail, faults = document["detail"], document["errors"]
    return problem_response(request.state.request_id, INVALID_REQUEST, detail, errors=faults)


def invalid_problem(
    validation_errors: Sequence[Any], prefix: str = "", most: int = _FAULTS_SHOWN
) -> dict[str, Any]:
    """The problem document of pydantic's validation errors.

    Args:
        most: how many of them it lists.
    """
    faults = [_fault(error["loc"], error["msg"]) for error in validation_errors[:most]]
    first = faults[0]
    detail = f"{first.get('pointer') or first.get('parameter') or 'body'}: {first['detail']}"
    if len(validation_errors) > 1:
        detail += f" (and {len(validation_errors) - 1} more)"
    return problem(INVALID_REQUEST, prefix + detail, errors=faults)


def _fault(where: Sequence[str | int], detail: str) -> dict[str, str]:
    # Never the value itself: it may be long, and it is a user's text.
    source, *steps = where
    if source != "body":
        return {"parameter": str(steps[0]), "detail": detail}
    escaped = (str(step).replace("~", "~0").replace("/", "~1") for step in steps)
    return {"pointer": "".join(f"/{step}" for step in escaped), "detail": detail}


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    request_id = request.state.request_id
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return problem_response(
                request_id, NO_SUCH_PATH, f"see {located('/docs')} for the paths"
            )
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(_methods(request))
            detail = f"use {allowed}"
            return problem_response(request_id, METHOD_NOT_ALLOWED, detail, {"Allow": allowed})
        case status:
            return problem_response(request_id, FOREIGN[status], str(error.detail), error.headers)


def _methods(request: Request) -> list[str]:
    # Starlette itself lists only those of the first route with this path.
    routes = (r for r in request.app.routes if r.matches(request.scope)[0] is not Match.NONE)
    methods = {method for route in routes for method in route.methods}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


# FastAPI's handlers for expected errors.
HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    errors.ServiceError: _on_service_error,
    RequestValidationError: _on_invalid_request,
    HTTPException: _on_http_exception,
}
