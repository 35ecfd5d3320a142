"""Batches of lines, through HTTP."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.api.batches.lines import Given, answer_in_order
from service.api.bodies.ndjson import lines_of
from service.api.schemas.batch import ScoredDialogue
from service.dialogue_format import DialogueIn, UtteranceOfDialogue
from service.errors import DeadlinePassed, EngineUnavailable
from service.settings import Admission, Limits
from tests.api.middleware.test_admission import Held
from tests.api.serving import serving
from tests.api.test_event_loop import MEBIBYTE, piece_of_work
from tests.clock import PATIENT_S, Clock, settled, until

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

NDJSON = "application/x-ndjson"
HEADERS = {"Content-Type": NDJSON, "Accept": NDJSON}
SAID = {"speaker": "Ann", "text": "We won!"}


def line(identifier: str, *texts: str, speaker: str = "Ann") -> bytes:
    turns = [{"speaker": speaker, "text": text} for text in texts]
    return json.dumps({"id": identifier, "utterances": turns}).encode() + b"\n"


def rows_of(answer: httpx.Response) -> list[Any]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == NDJSON
    return [json.loads(each) for each in answer.text.splitlines()]


async def post(service: "Service", content: bytes, **params: str) -> httpx.Response:
    return await service.client.post("/batch", content=content, headers=HEADERS, params=params)


async def test_lines_are_answered_as_the_same_dialogues_in_json(service: "Service") -> None:
    """In the order given, each with the number of its line."""
    dialogues = [{"id": n, "utterances": [SAID] * 3} for n in "zay"]
    batch = {"dialogues": dialogues, "label_space": "meld"}
    whole = (await service.client.post("/batch", json=batch)).json()["results"]
    content = b"\n".join(json.dumps(each).encode() for each in dialogues)

    in_lines = rows_of(await post(service, content, label_space="meld"))
    out_lines = rows_of(await service.client.post("/batch", json=batch, headers={"Accept": NDJSON}))

    assert in_lines == out_lines == [{"line": n + 1, **each} for n, each in enumerate(whole)]


NAMES = (
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonl",
    "application/jsonlines",
    "Application/X-JsonLines; charset=utf-8",
)


@pytest.mark.parametrize("name", NAMES)
async def test_lines_go_by_each_of_their_names(service: "Service", name: str) -> None:
    """The answer has the name that it was asked for by, or else the usual one."""
    content = line("a", "Hi.")
    (usual,) = rows_of(await post(service, content))
    declared = {"Content-Type": name}
    accepted = {"Accept": name}
    batch = {"dialogues": [json.loads(content)]}
    job = await service.client.post(
        "/batch", content=content, headers=declared | {"Prefer": "respond-async"}
    )
    await service.work()

    answers = [
        await service.client.post("/batch", content=content, headers=declared),
        await service.client.post("/batch", content=content, headers=declared | accepted),
        await service.client.post("/batch", json=batch, headers=accepted),
        await service.client.get(job.json()["results"], headers=accepted),
    ]

    media_type = name.partition(";")[0].lower()
    types = [answer.headers["content-type"] for answer in answers]
    assert types == [NDJSON, media_type, media_type, media_type]
    emotions = [answer.json()["utterances"][0]["emotion"] for answer in answers]
    assert emotions == [usual["utterances"][0]["emotion"]] * 4


async def test_lines_may_begin_with_a_byte_order_mark(service: "Service") -> None:
    """Each of them: files are put one behind another. One of nothing else is blank."""
    mark = "\ufeff".encode()
    content = mark + line("a", "Hi.") + mark + line("b", "Bye.") + mark + b"\r\n" + mark

    results = rows_of(await post(service, content))

    assert [(each["line"], each["id"]) for each in results] == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("content", "name", "detail"),
    [
        (json.dumps([SAID]).encode(), "invalid-request", "line 1: body: is an array; a line is"),
        (json.dumps([SAID], indent=1).encode(), "malformed-json", "; a line is one dialogue"),
        (
            line("a", "Hi.").decode().encode("utf-16"),
            "malformed-json",
            "line 1: is encoded in UTF-16",
        ),
    ],
    ids=["array", "array over lines", "UTF-16"],
)
async def test_what_is_no_lines_of_dialogues_is_told_what_they_are(
    service: "Service", content: bytes, name: str, detail: str
) -> None:
    """At its first line."""
    first = rows_of(await post(service, content))[0]

    assert first["error"]["type"] == f"/problems/{name}"
    assert detail in first["error"]["detail"]


async def test_a_broken_line_concerns_no_other(
    start_service: "StartService", tmp_path: Path
) -> None:
    """It gets a problem that names it; blank lines get nothing."""
    limits = Limits(body_bytes=200, text_characters=50, batch_utterances=2)
    lines = [
        line("a", "Hello?"),
        b"{\n",
        b"\r\n",
        b'{"id": "b", "utterances": [{"speaker": "Ann"}]}\n',
        line("c", "x" * 51),
        line("d", "one", "two", "three"),
        b"x" * 1000 + b"\n",
        line("e", "Bye."),
    ]
    async with start_service(tmp_path, limits) as service:
        results = rows_of(await post(service, b"".join(lines).rstrip(b"\n")))

    errors = {
        each["line"]: (
            each["error"]["type"],
            [e["pointer"] for e in each["error"].get("errors", [])],
        )
        for each in results
        if "error" in each
    }
    assert [each["line"] for each in results] == [1, 2, 4, 5, 6, 7, 8]
    assert [each["id"] for each in results if "error" not in each] == ["a", "e"]
    assert errors == {
        2: ("/problems/malformed-json", []),
        4: ("/problems/invalid-request", ["/utterances/0/text"]),
        5: ("/problems/invalid-request", ["/utterances/0/text"]),
        6: ("/problems/invalid-request", ["/utterances"]),
        7: ("/problems/body-too-large", []),
    }
    assert all(
        each["error"]["detail"].startswith(f"line {each['line']}: ")
        for each in results
        if "error" in each
    )


async def test_a_dialogue_that_the_engine_fails_at_gets_the_error(service: "Service") -> None:
    """The lines after it may be answered again."""
    service.engine.goes_away()

    (result,) = rows_of(await post(service, line("a", "Hello?")))

    assert (result["id"], result["error"]["type"]) == ("a", "/problems/engine-unavailable")


@pytest.mark.parametrize(
    ("headers", "params", "expected"),
    [
        ({"Accept": "application/json"}, {}, (406, "not-acceptable")),
        ({}, {"label_space": "nonsense"}, (422, "unsupported-label-space")),
        ({"Idempotency-Key": "k"}, {}, (422, "invalid-request")),
    ],
)
async def test_what_is_wrong_with_the_request_is_answered_as_a_problem(
    service: "Service",
    problem: Any,
    headers: dict[str, str],
    params: dict[str, str],
    expected: tuple[int, str],
) -> None:
    """Before the first line."""
    answer = await service.client.post(
        "/batch", content=line("a", "Hi."), headers=HEADERS | headers, params=params
    )

    assert problem(answer) == expected


async def test_lines_may_be_more_than_a_json_body_but_not_any_number(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """Declared, it is refused; undeclared, what came before is answered."""
    one = line("a", "Hello?")

    async def undeclared() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield one

    limits = Limits(body_bytes=len(one), lines_bytes=5 * len(one))
    async with start_service(tmp_path, limits) as service:
        within = rows_of(await post(service, one * 5))
        declared = await post(service, one * 6)
        counted = await service.client.post("/batch", content=undeclared(), headers=HEADERS)

    assert len(within) == 5
    assert problem(declared) == (413, "body-too-large")
    *answered, last = rows_of(counted)
    assert [each["id"] for each in answered] == ["a"] * 5
    assert last["error"]["type"] == "/problems/body-too-large"


async def test_a_result_leaves_before_the_next_line_comes(service: "Service") -> None:
    """Over one connection, both ways at once."""
    async with serving(service) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        head = (
            f"POST /batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: {NDJSON}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        writer.write(head.encode())
        async with asyncio.timeout(PATIENT_S):
            for n in range(3):
                content = line(str(n), "Hello?")
                writer.write(b"%x\r\n%b\r\n" % (len(content), content))
                if n == 0:
                    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                size = int(await reader.readline(), 16)
                assert json.loads((await reader.readexactly(size + 2)).strip())["id"] == str(n)
            writer.write(b"0\r\n\r\n")
            assert (await reader.readline()).strip() == b"0"
        writer.close()


async def test_a_client_that_goes_away_stops_the_work(service: "Service") -> None:
    """What waits in the engine is given up."""
    held = Held(service)
    content = line("a", "Hi.") * 20
    async with serving(service) as served:
        asking = asyncio.create_task(served.client.post("/batch", content=content, headers=HEADERS))
        await until(lambda: held.reading)
        asking.cancel()
        await held.reads(0)
        await until(lambda: service.door.empty)  # the request itself ends a few steps later


async def test_reading_waits_for_scoring_and_for_the_client() -> None:
    """Neither dialogues nor results pile up."""
    read = emitted = 0
    go_on = asyncio.Event()

    async def given() -> AsyncIterator[Given]:
        nonlocal read
        for read in range(1, 101):
            utterances = [UtteranceOfDialogue(speaker="Ann", text="Hi.")] * 2
            yield Given(read, DialogueIn(id=str(read), utterances=utterances))

    async def score(dialogue: DialogueIn) -> ScoredDialogue:
        return {"id": dialogue.id, "utterances": []}

    async def emit(_: Any) -> None:
        nonlocal emitted
        await go_on.wait()
        emitted += 1

    running = asyncio.create_task(answer_in_order(given(), score, emit, most=10))
    await settled()
    assert read == 6  # five have room, one waits for it
    go_on.set()
    await running
    assert emitted == 100


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_lines_are_found_however_the_body_is_cut(size: int) -> None:
    """With and without a last newline."""
    body = b'{"a"}\n\n \r\n' + b"x" * 9 + b"\n{}\nlast"

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    assert [each async for each in lines_of(chunks(), 8)] == [
        (1, b'{"a"}'),
        (4, None),
        (5, b"{}"),
        (6, b"last"),
    ]


@pytest.mark.parametrize("blank", [b"\n", b" \r\n"], ids=["bare", "spaced"])
async def test_blank_lines_take_next_to_no_time(blank: bytes) -> None:
    """A few kilobytes unpack to hundreds of millions; they are counted all the same."""
    count = 8 * MEBIBYTE // len(blank)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"{}\n"
        yield blank * count
        yield b"{}"

    piece_s = min(timed(piece_of_work) for _ in range(100))
    start = time.thread_time()
    lines_read = [each async for each in lines_of(chunks(), 100)]
    taken_s = time.thread_time() - start

    assert lines_read == [(1, b"{}"), (count + 2, b"{}")]
    assert taken_s < 4_000 * piece_s


def timed(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


@pytest.mark.parametrize(
    "sent",
    [b"{\n", b'{"id": "a", "utterances": []}\n', line("a", "Hello?")],
    ids=["broken", "empty", "failing"],
)
async def test_lines_that_are_no_work_do_not_keep_a_request_alive(
    start_service: "StartService", tmp_path: Path, problem: Any, clock: Clock, sent: bytes
) -> None:
    """They are answered, and its time goes on."""

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield sent
            await clock.skip(100)

    admission = Admission(batch_deadline_s=1000, utterances=8)
    async with start_service(tmp_path, Limits(), admission=admission) as service:
        service.engine.goes_away()
        try:
            answer = await service.client.post("/batch", content=slowly(), headers=HEADERS)
        except DeadlinePassed:
            pass  # the usual end of an answer that has begun
        else:
            assert problem(answer) == (504, "deadline-passed")  # no line was answered in time
        assert service.door.empty


async def test_a_deadline_ends_a_request_also_where_a_line_fails_at_that_moment() -> None:
    """A task group that is cancelled raises what failed in it, and nothing of the cancellation."""

    async def given() -> AsyncIterator[Given]:
        yield Given(
            1, DialogueIn(id="a", utterances=[UtteranceOfDialogue(speaker="Ann", text="Hi.")])
        )

    async def score(_: DialogueIn) -> ScoredDialogue:
        async def fail() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                raise EngineUnavailable("the label engine has died")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        raise AssertionError("it never ends by itself")

    async def emit(_: Any) -> None:
        raise AssertionError("the answer goes on")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await answer_in_order(given(), score, emit)


async def test_lines_that_are_scored_earn_the_request_time(
    start_service: "StartService", tmp_path: Path, clock: Clock
) -> None:
    """A hundredth of all of it for an utterance."""

    async def steadily() -> AsyncIterator[bytes]:
        for n in range(4):
            service.engine.prompts.clear()
            yield line(str(n), *["Hi."] * 100)
            await until(lambda: len(service.engine.prompts) == 100)
            await clock.skip(1000)

    admission = Admission(batch_deadline_s=3000, utterances=8)
    async with start_service(tmp_path, Limits(), admission=admission) as service:
        answer = await service.client.post("/batch", content=steadily(), headers=HEADERS)

    assert len(rows_of(answer)) == 4


async def test_what_was_converted_and_what_was_scored_is_scored(service: "Service") -> None:
    """As JSON, as lines, as a job: an utterance's own id, times and role come back; its label is
    not read.
    """
    repeated = {"id": "dia0_utt0", "start": 1, "end": 2.5, "role": "agent"}
    utterance = {**SAID, **repeated, "label": "anger", "description": "She jumps."}
    scored = {
        "id": "../clean/0",
        "line": 4,
        "utterances": [utterance | {"emotion": {}, "index": 0}],
    }
    content = json.dumps({"id": "clean/0", "utterances": [utterance, SAID]}).encode() + b"\n"
    content += json.dumps(scored).encode()
    batch = {"dialogues": [json.loads(each) for each in content.split(b"\n")]}

    in_lines = rows_of(await post(service, content))
    at_once = (await service.client.post("/batch", json=batch)).json()["results"]
    job = await service.client.post(
        "/batch", content=content, headers=HEADERS | {"Prefer": "respond-async"}
    )
    await service.work()
    later = rows_of(await service.client.get(job.json()["results"]))

    assert [{"line": n + 1, **each} for n, each in enumerate(at_once)] == in_lines == later
    assert [each["id"] for each in at_once] == ["clean/0", "../clean/0"]
    returned = [
        [{name: each[name] for name in repeated if name in each} for each in result["utterances"]]
        for result in at_once
    ]
    assert returned == [[repeated, {}], [repeated]]
