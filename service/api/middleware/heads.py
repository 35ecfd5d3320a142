"""Middleware that refuses queries and headers that are too many or too long."""

from itertools import chain

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.head_limits import LONGEST_HEADER, LONGEST_QUERY, MOST_HEADERS, MOST_PARAMETERS
from service.api.problems.answers import problem_response
from service.api.problems.kinds import BAD_REQUEST, HEAD_TOO_LARGE, Kind


class BoundedHeads:
    """Refuses queries and headers that are too many or too long.

    Several layers go through all of them: thousands of parameters take seconds.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        excess = _excess(scope) if scope["type"] == "http" else None
        if excess is None:
            await self.app(scope, receive, send)
            return
        response = problem_response(scope["state"]["request_id"], *excess)
        await response(scope, receive, send)


def _excess(scope: Scope) -> tuple[Kind, str] | None:
    """The problem and its detail; None where no limit is exceeded."""
    query, headers = scope["query_string"], scope["headers"]
    if query.count(b"&") >= MOST_PARAMETERS:
        return BAD_REQUEST, f"at most {MOST_PARAMETERS} query parameters are allowed"
    if len(query) > LONGEST_QUERY:
        return BAD_REQUEST, f"at most {LONGEST_QUERY} bytes are allowed in a query"
    if len(headers) > MOST_HEADERS:
        return HEAD_TOO_LARGE, f"at most {MOST_HEADERS} headers are allowed"
    if max(map(len, chain.from_iterable(headers)), default=0) > LONGEST_HEADER:
        return HEAD_TOO_LARGE, f"at most {LONGEST_HEADER} bytes are allowed in a header"
    return None
