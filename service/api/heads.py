"""Middleware that refuses what stands before a body where it is more than any request needs."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problem_kinds import BAD_REQUEST
from service.api.problems import problem_answer

MOST_PARAMETERS = 32
MOST_FIELDS = 100
LONGEST_FIELD = 8192


class BoundedHeads:
    """Refuses queries and header fields that are too many or too long.

    Whoever looks through them pays for each, more than once: thousands of parameters take seconds.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        excess = _excess(scope) if scope["type"] == "http" else None
        if excess is None:
            await self.app(scope, receive, send)
            return
        answer = problem_answer(scope["state"]["request_id"], BAD_REQUEST, excess)
        await answer(scope, receive, send)


def _excess(scope: Scope) -> str | None:
    """What there is too much of, in words."""
    if scope["query_string"].count(b"&") >= MOST_PARAMETERS:
        return f"the query has more than {MOST_PARAMETERS} parameters"
    if len(scope["headers"]) > MOST_FIELDS:
        return f"there are more than {MOST_FIELDS} header fields"
    lengths = [len(value) for _, value in scope["headers"]]
    if max(len(scope["query_string"]), *lengths, 0) > LONGEST_FIELD:
        return f"the query or a header field has more than {LONGEST_FIELD} bytes"
    return None
