"""What has been sent of a response, for middleware that acts on it."""

from starlette.types import Message, Send


class Sending:
    """Sends a response, and keeps its status.

    Attributes:
        status: None until the response has begun.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)
