"""A server that speaks as vLLM's does and fails on command, as the real one cannot be had do."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Fault = Callable[["ScriptedServer", web.Request], Any]


@dataclass
class ScriptedServer:
    """
    Attributes:
        log_probabilities: by token; others have -20.
        models: the longest prompt of each.
        cached_tokens: what it says of each prompt; None: it does not count them.
        status: of its answers; those of others than 200 have `message`.
        goes_on: cleared, it answers nothing.
        padding: bytes of space before its answers, whose length it does not say then.
        breaks_off: whether it closes the connection in place of an answer.
        asked: what it was asked to complete.
        headers: of each of these.
        abandoned: how many of them their client closed before the answer.
    """

    log_probabilities: Mapping[int, float] = field(default_factory=dict)
    models: dict[str, int] = field(default_factory=lambda: {"erc-test": 512})
    cached_tokens: int | None = 0
    queue_time_ms: float | None = None
    status: int = 200
    message: str = "as it was told"
    refuses_priorities: bool = False
    padding: int = 0
    breaks_off: int = 0
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    abandoned: int = 0
    port: int = 0
    runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen; again on the same port if it has been stopped."""
        self.goes_on.set()
        app = web.Application()
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self.runner.addresses[0][1]

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
        self.runner = None

    async def _complete(self, request: web.Request) -> web.Response:
        question = await request.json()
        self.asked.append(question)
        self.headers.append(request.headers)
        try:
            await self.goes_on.wait()
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        if self.breaks_off:
            self.breaks_off -= 1
            assert request.transport is not None
            request.transport.close()
        if self.status != 200:
            return web.json_response({"error": {"message": self.message}}, status=self.status)
        if self.refuses_priorities and question["priority"]:
            message = "Got priority 1 but Priority scheduling is not enabled."
            return web.json_response({"error": {"message": message}}, status=400)
        if question["model"] not in self.models:
            return web.json_response({"error": {"message": "no such model"}}, status=404)
        found = {
            f"token_id:{token}": max(self.log_probabilities.get(token, -20.0), -9999.0)
            for token in (1, *question["logprob_token_ids"])
        }
        cached, queue_ms = self.cached_tokens, self.queue_time_ms
        answer = {
            "choices": [{"logprobs": {"top_logprobs": [found]}, "finish_reason": "length"}],
            "usage": {
                "prompt_tokens_details": None if cached is None else {"cached_tokens": cached}
            },
            "metrics": None if queue_ms is None else {"queue_time_ms": queue_ms},
        }
        text = " " * self.padding + json.dumps(answer)
        response = web.Response(text=text, content_type="application/json")
        if self.padding:
            response.enable_chunked_encoding()
        return response

    async def _models(self, _: web.Request) -> web.Response:
        cards = [{"id": name, "max_model_len": longest} for name, longest in self.models.items()]
        return web.json_response({"object": "list", "data": cards})


@asynccontextmanager
async def scripted_server(**script: Any) -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer(**script)
    await server.start()
    yield server
    await server.stop()
