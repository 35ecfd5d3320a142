"""Far more than the service can answer."""

import asyncio
import os
import time
from contextlib import suppress

import httpx
import psutil

from tests.e2e.conftest import Service
from tests.faults.conftest import Load, number, rate

SECONDS = float(os.environ.get("ERC_TEST_OVERLOAD_S", "8"))
DEADLINE_S = 4  # of the 10 s that are late, the rest is for a machine that stands still
# Caches fill to their bounds: 250 MiB over the first ten thousand dialogues, none after them.
GROWTH_BYTES = 320 * 2**20
# Others on the machine may take half of it for a minute; a service that is hurt stays slow.
LOOKS = 12
RECOVERED = 0.5
ROUTE = "/dialogues/{dialogue_id}/utterances"


def test_ten_times_the_rate_that_can_be_kept_up(service: Service) -> None:
    """Memory stays flat; each answer is in time, the others are refused; then all is as before."""
    rate(service, 3)
    usual = rate(service, 5)
    process = psutil.Process(service.process.pid)
    before = memory(process)

    late_before = late(service)
    load = Load()
    most = asyncio.run(overload(service, load, 10 * usual, process))
    time.sleep(5)
    after = 0.0
    for _ in range(LOOKS):
        after = max(after, rate(service, 5))
        if after > RECOVERED * usual:
            break

    slowest = max(load.seconds)
    offered = sum(load.answers.values()) / SECONDS
    print(
        f"usual {usual:.0f}/s, asked {offered:.0f}/s for {SECONDS:g} s: "
        f"{dict(load.answers)}; slowest {slowest:.1f} s; "
        f"{before / 2**20:.0f} MiB, at most {most / 2**20:.0f}; then {after:.0f}/s"
    )
    assert most - before < GROWTH_BYTES
    assert late(service) == late_before
    assert set(load.answers) <= {201, 503, 504, "none"}
    assert load.answers["none"] <= 0.01 * sum(load.answers.values())  # idle ones that were closed
    assert load.answers[503] + load.answers[504] > 0
    assert load.unfair == []
    assert after > RECOVERED * usual


def late(service: Service) -> float:
    """Requests that the service took 10 s for; a client also waits for its own turn."""
    name = "erc_request_seconds"
    in_time = number(service, f"{name}_bucket", route=ROUTE, le="10.0")
    return number(service, f"{name}_count", route=ROUTE) - in_time


def memory(process: psutil.Process) -> int:
    """The bytes that it holds."""
    held: int = process.memory_info().rss
    return held


async def overload(service: Service, load: Load, per_second: float, process: psutil.Process) -> int:
    """Ask at a steady rate, whatever is answered; the most memory that the service took."""
    headers = {"Prefer": f"wait={DEADLINE_S}"}
    most = 0
    tasks: set[asyncio.Task[None]] = set()
    async with httpx.AsyncClient(base_url=service.url, transport=Connections()) as client:
        start = time.monotonic()
        sent = 0
        while (elapsed := time.monotonic() - start) < SECONDS:
            while sent < elapsed * per_second:
                sent += 1
                task = asyncio.create_task(load.say(client, headers))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            most = max(most, memory(process))
            await asyncio.sleep(0.02)
        await asyncio.gather(*tasks)
    return max(most, memory(process))


class Connections(httpx.AsyncBaseTransport):
    """Keeps connections open, as httpx does, but does not look through all of them each time."""

    def __init__(self) -> None:
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        head = b"".join(b"%s: %s\r\n" % header for header in request.headers.raw)
        sent = b"POST %s HTTP/1.1\r\n%s\r\n%s" % (request.url.raw_path, head, request.content)
        try:
            while self._free:
                reader, writer = self._free.pop()
                with suppress(OSError, asyncio.IncompleteReadError):  # closed since
                    return await self._answer(reader, writer, sent)
            opened = await asyncio.open_connection(request.url.host, request.url.port)
            return await self._answer(*opened, sent)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise httpx.NetworkError(str(error)) from error

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes
    ) -> httpx.Response:
        writer.write(sent)
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        headers = httpx.Headers([(name, value) for name, _, value in map(_parted, lines)])
        content = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._free.append((reader, writer))
        return httpx.Response(int(status.split()[1]), headers=headers, content=content)

    async def aclose(self) -> None:
        for _, writer in self._free:
            writer.close()


def _parted(line: str) -> tuple[str, str, str]:
    return line.partition(": ")
