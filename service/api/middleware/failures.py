"""Middleware that answers unexpected errors."""

import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.middleware.sending import Sending
from service.api.problems.answers import problem_response
from service.api.problems.kinds import INTERNAL_ERROR

log = logging.getLogger(__name__)


class AnsweredFailures:
    """Answers an unexpected error with a problem that reveals nothing, and logs the error."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sending = Sending(send)
        try:
            await self.app(scope, receive, sending)
        except Exception:
            request_id = scope["state"]["request_id"]
            if sending.status is not None:  # only closing the connection remains
                raise
            log.exception("request %s failed", request_id)
            detail = "the log has the cause under the request's id"
            response = problem_response(request_id, INTERNAL_ERROR, detail)
            await response(scope, receive, sending)
