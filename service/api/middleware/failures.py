"""Middleware that answers unexpected errors."""

import logging
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems.answers import problem_answer
from service.api.problems.kinds import INTERNAL_ERROR

if TYPE_CHECKING:
    pass


log = logging.getLogger(__name__)


class AnsweredFailures:
    """Answers what nobody foresaw with a problem that says nothing, and logs the rest."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watching(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watching)
        except Exception:
            request_id = scope["state"]["request_id"]
            if started:  # all that is left is to break the connection off
                raise
            log.exception("request %s failed", request_id)
            detail = "the log has the cause, under the request's id"
            answer = problem_answer(request_id, INTERNAL_ERROR, detail)
            await answer(scope, receive, watching)
