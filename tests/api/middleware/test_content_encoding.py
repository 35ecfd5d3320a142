"""Bodies that were packed (`Content-Encoding`), and those that unpack to too much."""

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.exceptions import HTTPException

from service.api.middleware.sizes import unpacked
from service.settings import Limits
from tests.api.batches.test_lines import HEADERS, line
from tests.api.serving import serving
from tests.api.test_event_loop import LONGEST_PIECES, MEBIBYTE, longest_step

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

# One service for those that leave nothing behind that others would meet.
standing = pytest.mark.asyncio(loop_scope="module")

SAID = {"speaker": "Ann", "text": "We won!"}
JSON = {"Content-Type": "application/json"}
TURN = "/dialogues/packed/utterances"
BODIES = {
    TURN: SAID,
    "/batch": {"dialogues": [{"id": "a", "utterances": [SAID]}]},
    "/demonstrations": {
        "demonstrations": [{"label_space": "meld", "label": "joy", "text": "Ours!", "id": "o"}]
    },
}
TAKEN = "gzip, deflate, identity"


def plain(path: str) -> bytes:
    return json.dumps(BODIES[path]).encode()


async def post(
    service: "Service", path: str, content: Any, coding: str, **headers: str
) -> httpx.Response:
    packed = {"Content-Encoding": coding}
    return await service.client.post(path, content=content, headers=JSON | packed | headers)


@standing
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("identity, gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
        ("", bytes),
        ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
        ("gzip", lambda body: gzip.compress(body) + gzip.compress(b"") + b"\0" * 512),
    ],
    ids=["gzip", "upper", "x-gzip", "twice", "deflate", "identity", "none", "members", "padding"],
)
async def test_a_packed_body_is_read_as_if_it_were_not(
    standing_service: "Service", path: str, coding: str, pack: Any
) -> None:
    """On every route that takes one, in any of the forms that clients pack it."""
    answer = await post(standing_service, path, pack(plain(path)), coding)

    assert answer.is_success, answer.text
    unpacked = await standing_service.client.post(path, content=plain(path), headers=JSON)
    assert answer.json().keys() == unpacked.json().keys()


async def test_packed_lines_are_answered_as_lines_are(service: "Service") -> None:
    """However the connection cuts what is packed."""
    content = b"".join(line(str(n), f"Line {n}.") for n in range(50))
    packed = gzip.compress(content)

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(packed), 7):
            yield packed[start : start + 7]

    headers = HEADERS | {"Content-Encoding": "gzip"}
    async with serving(service) as served:
        at_once = await served.client.post("/batch", content=packed, headers=headers)
        cut = await served.client.post("/batch", content=in_pieces(), headers=headers)

    expected = await service.client.post("/batch", content=content, headers=HEADERS)
    assert at_once.text == cut.text == expected.text


async def test_a_job_of_packed_lines_is_done(service: "Service") -> None:
    content = gzip.compress(line("a", "Hi.") + line("b", "Bye."))
    headers = HEADERS | {"Content-Encoding": "gzip", "Prefer": "respond-async"}

    answer = await service.client.post("/batch", content=content, headers=headers)
    await service.work()

    job = (await service.client.get(answer.headers["location"])).json()
    assert (job["state"], job["done"], job["failed"]) == ("done", 2, 0)


async def test_a_request_is_the_same_packed_or_not(service: "Service", problem: Any) -> None:
    """Under its key it is answered as before, however it is packed."""
    first = await post(
        service, TURN, gzip.compress(plain(TURN)), "gzip", **{"Idempotency-Key": "k"}
    )

    again = await post(service, TURN, plain(TURN), "identity", **{"Idempotency-Key": "k"})
    other = gzip.compress(json.dumps(SAID | {"text": "We lost."}).encode())
    refused = await post(service, TURN, other, "gzip", **{"Idempotency-Key": "k"})

    assert first.status_code == 201
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    assert problem(refused) == (409, "idempotency-key-reused")


@standing
@pytest.mark.parametrize("path", [*BODIES, "lines"])
@pytest.mark.parametrize(
    "coding", ["br", "zstd", "compress", "gzip, gzip", "deflate, gzip", "gzip;q=1", "*", "utf-8"]
)
async def test_a_body_packed_otherwise_is_refused(
    standing_service: "Service", problem: Any, path: str, coding: str
) -> None:
    """The answer names the header, and what is taken (RFC 9110, section 12.5.3)."""
    lines = path == "lines"
    headers = HEADERS if lines else {}
    answer = await post(
        standing_service, "/batch" if lines else path, b"\x8b\x00x", coding, **headers
    )

    assert problem(answer) == (415, "unsupported-media-type")
    assert "Content-Encoding" in answer.json()["detail"]
    assert answer.headers["accept-encoding"] == TAKEN


# Without the time, which would be in the names of the tests.
PACKED = gzip.compress(plain(TURN), mtime=0)


@standing
@pytest.mark.parametrize(
    ("coding", "content", "how"),
    [
        ("gzip", plain(TURN), "cannot be decompressed"),
        ("gzip", zlib.compress(plain(TURN)), "cannot be decompressed"),
        ("deflate", PACKED, "cannot be decompressed"),
        ("gzip", PACKED[:1], "is truncated"),
        ("gzip", PACKED[:-1], "is truncated"),
        ("gzip", PACKED + PACKED[:12], "is truncated"),
        ("gzip", PACKED[:-8] + b"\0" * 8, "cannot be decompressed"),
        ("gzip", PACKED + b"garbage", "cannot be decompressed after 1 members"),
        (
            "deflate",
            zlib.compress(plain(TURN)) + b"garbage",
            "has data after the end of the compressed data",
        ),
    ],
)
async def test_a_body_that_is_not_packed_as_declared_is_refused(
    standing_service: "Service", problem: Any, coding: str, content: bytes, how: str
) -> None:
    """Cut off, damaged, with something behind it, or not packed at all; nothing is stored."""
    answer = await post(standing_service, "/dialogues/broken/utterances", content, coding)

    assert problem(answer) == (400, "bad-request")
    assert how in answer.json()["detail"]
    assert coding in answer.json()["detail"]
    assert (await standing_service.client.get("/dialogues/broken")).status_code == 404


@standing
async def test_lines_before_the_place_where_a_packed_body_breaks_are_answered(
    standing_service: "Service",
) -> None:
    """The last result says why nothing after it is read."""
    packer = zlib.compressobj(wbits=31)
    content = packer.compress(line("a", "Hi.")) + packer.flush(zlib.Z_FULL_FLUSH)
    headers = HEADERS | {"Content-Encoding": "gzip"}

    answer = await standing_service.client.post("/batch", content=content, headers=headers)

    first, last = map(json.loads, answer.text.splitlines())
    assert first["id"] == "a"
    assert last["error"]["type"] == "/problems/bad-request"
    assert "after line 1: " in last["error"]["detail"]
    assert "is truncated" in last["error"]["detail"]


@standing
async def test_an_empty_body_holds_nothing_that_could_be_unpacked(
    standing_service: "Service", problem: Any
) -> None:
    answer = await post(standing_service, TURN, b"", "gzip")

    assert problem(answer) == (422, "invalid-request")


@standing
async def test_what_needs_no_body_may_name_any_coding(standing_service: "Service") -> None:
    answer = await standing_service.client.get(
        "/demonstrations", headers={"Content-Encoding": "br"}
    )

    assert answer.status_code == 200


BLANK = 64 * MEBIBYTE


@pytest.mark.parametrize("path", [*BODIES, "lines"])
async def test_what_unpacks_to_too_much_is_refused_where_it_gets_too_much(
    start_service: "StartService", tmp_path: Path, problem: Any, path: str
) -> None:
    """A few kilobytes that unpack to 64 MiB take no such room."""
    bomb = gzip.compress(b" " * BLANK)
    lines = path == "lines"
    async with start_service(tmp_path, Limits(lines_bytes=MEBIBYTE)) as service:
        where, headers = ("/batch", HEADERS) if lines else (path, {})
        tracemalloc.start()
        try:
            answer = await post(service, where, bomb, "gzip", **headers)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert problem(answer) == (413, "body-too-large")
    assert most < 8 * MEBIBYTE


async def test_both_what_is_sent_and_what_it_unpacks_to_are_within_the_bound(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """A stream that unpacks to nothing ends all the same."""
    async with start_service(tmp_path, Limits(body_bytes=1000)) as service:
        fits = await post(service, TURN, gzip.compress(plain(TURN).ljust(1000)), "gzip")
        beyond = await post(service, TURN, gzip.compress(plain(TURN).ljust(1001)), "gzip")
        taken = 0

        async def nothing() -> AsyncIterator[bytes]:
            nonlocal taken
            for _ in range(1000):
                taken += 1
                yield gzip.compress(b"")

        endless = await post(service, TURN, nothing(), "gzip")

    assert fits.status_code == 201
    assert problem(beyond) == problem(endless) == (413, "body-too-large")
    assert taken < 100


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b" " * BLANK),
        gzip.compress(b"{}\n" * 20_000),
        gzip.compress(b"") * 50_000,
        gzip.compress(b"") + b"\0" * 1_000_000,
    ],
    ids=["large", "lines", "members", "padding"],
)
async def test_no_step_of_the_event_loop_is_long_whatever_is_unpacked(
    service: "Service", content: bytes
) -> None:
    """It is unpacked a little at a time."""
    await service.say("warm", "Ann", "Hello.")

    async def sent() -> None:
        for headers in (JSON, HEADERS):
            await post(service, "/batch", content, "gzip", **headers)

    assert await longest_step(sent) < LONGEST_PIECES


MEMBER = gzip.compress(b"")


async def pieces_of(content: bytes) -> tuple[bytes, int]:
    """What a body unpacks to, and how often the event loop went round for it."""
    turns, whole, more = 0, b"", True

    async def receive() -> Any:
        return {"type": "http.request", "body": content, "more_body": False}

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    unpacking = unpacked({"type": "http", "headers": [(b"content-encoding", b"gzip")]}, receive)
    counting = asyncio.create_task(count_turns())
    try:
        while more:
            message = await unpacking()
            whole, more = whole + message["body"], message["more_body"]
    finally:
        counting.cancel()
    return whole, turns


@pytest.mark.parametrize("member", [MEMBER, gzip.compress(b" ")], ids=["empty", "small"])
async def test_members_that_hold_next_to_nothing_take_next_to_no_time(member: bytes) -> None:
    """Not a turn of the event loop each: while others are at work, one takes much longer."""
    whole, turns = await pieces_of(member * 50_000 + gzip.compress(b"{}"))

    assert whole.strip() == b"{}"
    assert turns < 1_000


async def test_what_is_whole_comes_before_what_is_broken() -> None:
    """However little there is of either."""
    content = gzip.compress(b"one") + MEMBER + gzip.compress(b"two") + b"no member"
    sent = iter([{"type": "http.request", "body": content, "more_body": False}])

    async def receive() -> Any:
        return next(sent)

    unpacking = unpacked({"type": "http", "headers": [(b"content-encoding", b"gzip")]}, receive)
    first = await unpacking()
    with pytest.raises(HTTPException, match="after 3 members"):
        await unpacking()
    assert first["body"] == b"onetwo"
