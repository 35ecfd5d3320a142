"""The server's shutdown: requests in progress are finished first."""

from collections.abc import Callable
from time import monotonic
from types import FrameType

import uvicorn

from service.admission.door import Door
from service.errors import ShuttingDown

# Time to send the responses of requests that were interrupted.
_LAST_ANSWERS_S = 2.0


class DrainingServer(uvicorn.Server):
    """A server that on SIGTERM or SIGINT finishes the requests in progress before it shuts down.

    From the signal on the service is not ready, and new requests are refused with 503 and
    `Connection: close`. Streams end at once: their readers reconnect to another process. Requests
    in progress are completed; after `grace_s` they are interrupted with 503. Then the server shuts
    down. A second signal shuts it down at once.
    """

    def __init__(
        self, config: uvicorn.Config, door: Door, grace_s: float, started: Callable[[int], None]
    ) -> None:
        """Configure the server.

        Args:
            grace_s: seconds in which requests in progress may finish.
            started: called with the port once the service is ready.
        """
        super().__init__(config)
        self._door = door
        self._grace_s = grace_s
        self._on_start = started
        self._until: float | None = None

    def drain(self) -> None:
        """Finish the requests in progress, then shut down. Safe in a signal handler."""
        self._door.draining = True
        self._until = monotonic() + self._grace_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.started and self._until is None:
            self.drain()
        else:
            super().handle_exit(sig, frame)

    async def startup(self, sockets: "list[object] | None" = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            self._on_start(self.servers[0].sockets[0].getsockname()[1])

    async def on_tick(self, counter: int) -> bool:
        if self._until is not None:
            self._door.streams.end_all()
            over_s = monotonic() - self._until
            if self._door.empty or over_s > _LAST_ANSWERS_S:
                self.should_exit = True
            elif over_s > 0:
                self._door.end_all(
                    ShuttingDown("the service is shutting down and cannot finish this")
                )
        return await super().on_tick(counter)
