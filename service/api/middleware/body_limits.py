"""Middleware that decompresses bodies and refuses those that are too large."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.headers.content_encoding import unpacked
from service.api.headers.content_type import is_ndjson
from service.api.policies import policy_of
from service.api.problems.kinds import BODY_TOO_LARGE


class LimitedBody:
    """Decompresses a body, and refuses one of more than `most_bytes`.

    By its Content-Length before the first byte, or else by its bytes as they are read, both encoded
    and decoded.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, most_bytes_of_lines: int) -> None:
        """Wrap an application.

        Args:
            most_bytes: the limit on a body.
            most_bytes_of_lines: the limit on an NDJSON body, which is read line by line.
        """
        self.app = app
        self.most_bytes = most_bytes
        self.most_bytes_of_lines = most_bytes_of_lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        in_lines = policy_of(scope).takes_lines and is_ndjson(scope)
        most_bytes = self.most_bytes_of_lines if in_lines else self.most_bytes
        encoded = _counted(receive, most_bytes, _declared_bytes(scope))
        await self.app(scope, _counted(unpacked(scope, encoded), most_bytes), send)


def _counted(receive: Receive, most_bytes: int, declared: int = 0) -> Receive:
    total = 0

    async def counting() -> Message:
        nonlocal total
        if total == 0 and declared > most_bytes:
            raise _refusal(most_bytes)
        message = await receive()
        total += len(message.get("body", b""))
        if total > most_bytes:
            raise _refusal(most_bytes)
        return message

    return counting


def _refusal(most_bytes: int) -> HTTPException:
    detail = f"at most {most_bytes} bytes are allowed, encoded and decoded"
    return HTTPException(BODY_TOO_LARGE.status, detail)


def _declared_bytes(scope: Scope) -> int:
    try:
        return int(Headers(scope=scope).get("content-length", "0"))
    except ValueError:  # not a number, or one of thousands of digits
        return 0
