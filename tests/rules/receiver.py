"""An endpoint on this machine that receives webhooks, and verifies them."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from service.rules.rule_files import Endpoint

KEY = bytes(range(32))


@dataclass
class Receiver:
    """What was received, and what the next are answered.

    Attributes:
        received: ids and bodies, in order.
    """

    answer: Callable[[web.Request], web.StreamResponse] = lambda _: web.Response(status=204)
    received: list[tuple[str, Any]] = field(default_factory=list)
    port: int = 0

    def endpoint(self, name: str = "crm", host: str = "127.0.0.1", **more: Any) -> Endpoint:
        url = f"http://{host}:{self.port}/hook"
        return Endpoint(name, url, KEY, **{"allow_private": True, **more})

    def entry(self) -> str:
        """The endpoint in a rules file."""
        secret = f"whsec_{base64.b64encode(KEY).decode()}"
        return (
            f'[endpoints.crm]\nurl = "{self.endpoint().url}"\nsecret = "{secret}"\n'
            "allow_private = true\n"
        )

    async def receive(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = request.headers
        content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        digest = hmac.new(KEY, content, hashlib.sha256).digest()
        assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
        assert headers["content-type"] == "application/json"
        self.received.append((headers["webhook-id"], json.loads(body)))
        return self.answer(request)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.receive)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()
