"""Bodies that are refused: each a problem with a status from 400 to 499, and no trace left."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.settings import Limits

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

# One service for all: what is refused leaves nothing behind.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SAID = {"speaker": "Ann", "text": "We won!"}
TURN = "/dialogues/refused/utterances"
JSON = {"Content-Type": "application/json"}


async def post(service: "Service", path: str, content: bytes, **headers: str) -> httpx.Response:
    return await service.client.post(path, content=content, headers=JSON | headers)


async def nothing_stored(service: "Service") -> bool:
    dialogue = await service.client.get("/dialogues/refused")
    demonstrations = await service.client.get("/demonstrations")
    return dialogue.status_code == 404 and demonstrations.json()["demonstrations"] == []


@pytest.mark.parametrize("path", [TURN, "/batch", "/demonstrations"])
@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"We won!",
        b'{"speaker": "Ann", "text": "We won!"',
        b'{"speaker": "Ann", "text": "We won!"} {}',
        b"{'speaker': 'Ann', 'text': 'We won!'}",
        b'{"speaker": "Ann", "text": "\\ud800"}',
        b'{"speaker": "\\udfff", "text": "We won!"}',
        b'{"\\ud800": 1}',
        b'{"speaker": "Ann", "text": "\xed\xa0\x80"}',
        b'{"speaker": "Ann", "text": "\xff"}',
        b'{"speaker": "Ann", "text": "a\nb"}',
        b'\xef\xbb\xbf\xef\xbb\xbf{"speaker": "Ann", "text": "We won!"}',
        b"\xef\xbb\xbf",
        b'{"speaker": "Ann", "text": NaN}',
        b'{"speaker": "Ann", "text": Infinity}',
        b'{"speaker": "Ann", "text": 1e999}',
        b'{"speaker": "Ann", "text": ' + b"1" * 5000 + b"}",
        b"\x00",
        b" ",
    ],
    ids=lambda content: repr(content[:45]),
)
async def test_what_is_not_json_is_refused(
    standing_service: "Service", problem: Any, path: str, content: bytes
) -> None:
    """By the letter of RFC 8259, in UTF-8; numbers that fit a double."""
    answer = await post(standing_service, path, content)

    assert problem(answer) == (400, "malformed-json")
    assert await nothing_stored(standing_service)


@pytest.mark.parametrize("path", [TURN, "/batch", "/demonstrations"])
@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
async def test_json_in_another_encoding_of_unicode_is_refused_by_its_name(
    standing_service: "Service", problem: Any, path: str, encoding: str
) -> None:
    """With a byte order mark or without."""
    answer = await post(standing_service, path, json.dumps(SAID).encode(encoding))

    assert problem(answer) == (400, "malformed-json")
    assert f"is encoded in {encoding[:6].upper()}; send JSON in UTF-8" in answer.json()["detail"]


async def test_a_byte_order_mark_is_passed_over(
    standing_service: "Service", dialogue_id: str
) -> None:
    """As a reader of JSON may (RFC 8259, section 8.1)."""
    content = json.dumps(SAID).encode("utf-8-sig")

    answer = await post(standing_service, f"/dialogues/{dialogue_id}/utterances", content)

    assert answer.status_code == 201


@pytest.mark.parametrize("path", [TURN, "/batch", "/demonstrations"])
@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=latin-1",
        "application/json;charset=UTF-16",
        'application/json; Charset="iso-8859-1"',
        "application/json; profile=x; charset = windows-1252",
        'application/json; profile="; charset=utf-8"; charset=utf-32',
        "application/x-ndjson; charset=latin-1",
    ],
)
async def test_a_body_that_is_declared_in_another_charset_is_refused(
    standing_service: "Service", problem: Any, path: str, content_type: str
) -> None:
    """Whatever it holds; the answer says which is taken."""
    lines = content_type.startswith("application/x-ndjson")
    answer = await standing_service.client.post(
        "/batch" if lines else path,
        content=json.dumps(SAID).encode(),
        headers={"Content-Type": content_type},
    )

    assert problem(answer) == (415, "unsupported-media-type")
    assert "charset" in answer.json()["detail"]
    assert "UTF-8" in answer.json()["detail"]
    assert await nothing_stored(standing_service)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (None, ""),
        ([], ""),
        ("We won!", ""),
        (5, ""),
        ({}, "/speaker"),
        ({"speaker": "Ann"}, "/text"),
        ({"text": "We won!"}, "/speaker"),
        (SAID | {"text": 5}, "/text"),
        (SAID | {"text": 10**17}, "/text"),
        (SAID | {"text": None}, "/text"),
        (SAID | {"text": True}, "/text"),
        (SAID | {"text": ["We won!"]}, "/text"),
        (SAID | {"text": {"a": {"b": {}}}}, "/text"),
        (SAID | {"text": ""}, "/text"),
        (SAID | {"text": " \t\r\n\u00a0\u2003\u3000"}, "/text"),
        (SAID | {"text": "f" * 2001}, "/text"),
        (SAID | {"text": "\N{PARTY POPPER}" * 2001}, "/text"),
        *(
            (SAID | {"text": f"a{chr(code)}b"}, "/text")
            for code in (*range(9), 11, 12, *range(14, 32), 127)
        ),
        (SAID | {"speaker": 0}, "/speaker"),
        (SAID | {"speaker": ""}, "/speaker"),
        (SAID | {"speaker": " "}, "/speaker"),
        (SAID | {"speaker": "A" * 101}, "/speaker"),
        *((SAID | {"speaker": f"A{end}B"}, "/speaker") for end in "\n\r\x85\u2028\u2029\0"),
        (SAID | {"label_space": None}, "/label_space"),
        (SAID | {"label_space": 1}, "/label_space"),
        (SAID | {"label_space": ""}, "/label_space"),
        (SAID | {"label_space": "m" * 101}, "/label_space"),
        (SAID | {"labelspace": "meld"}, "/labelspace"),
        (SAID | {"a/b~c": 1}, "/a~1b~0c"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_an_utterance_that_is_not_as_it_should_be_is_refused(
    standing_service: "Service", problem: Any, body: Any, pointer: str
) -> None:
    """The answer points at the fault and does not repeat what stands there."""
    answer = await post(standing_service, TURN, json.dumps(body).encode())

    assert problem(answer) == (422, "invalid-request")
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert answer.json()["errors"][0]["detail"]
    assert "We won!" not in answer.text
    assert await nothing_stored(standing_service)


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/batch", {}, "/dialogues"),
        ("/batch", {"dialogues": {}}, "/dialogues"),
        ("/batch", {"dialogues": [SAID]}, "/dialogues/0/id"),
        ("/batch", {"dialogues": [{"id": "a"}]}, "/dialogues/0/utterances"),
        ("/batch", {"dialogues": [{"id": 1, "utterances": []}]}, "/dialogues/0/id"),
        ("/batch", {"dialogues": [{"id": "", "utterances": []}]}, "/dialogues/0/id"),
        ("/batch", {"dialogues": [{"id": " ", "utterances": []}]}, "/dialogues/0/id"),
        ("/batch", {"dialogues": [{"id": "a\nb", "utterances": []}]}, "/dialogues/0/id"),
        ("/batch", {"dialogues": [{"id": "a" * 501, "utterances": []}]}, "/dialogues/0/id"),
        (
            "/batch",
            {"dialogues": [{"id": "a", "utterances": [SAID | {"id": "u"}] * 2}]},
            "/dialogues/0",
        ),
        (
            "/batch",
            {"dialogues": [{"id": "a", "utterances": [SAID, SAID | {"text": "\0"}]}]},
            "/dialogues/0/utterances/1/text",
        ),
        (
            "/batch",
            {"dialogues": [{"id": "a", "utterances": [SAID | {"lable": "joy"}]}]},
            "/dialogues/0/utterances/0/lable",
        ),
        ("/demonstrations", {}, "/demonstrations"),
        ("/demonstrations", {"demonstrations": []}, "/demonstrations"),
        ("/demonstrations", {"demonstrations": [{}]}, "/demonstrations/0/label_space"),
        (
            "/demonstrations",
            {"demonstrations": [{"label_space": "meld", "label": "joy", "text": "\x1b[0m"}]},
            "/demonstrations/0/text",
        ),
        (
            "/demonstrations",
            {"demonstrations": [{"label_space": "meld", "label": 4, "text": "We won!"}]},
            "/demonstrations/0/label",
        ),
        (
            "/demonstrations",
            {
                "demonstrations": [
                    {"label_space": "meld", "label": "joy", "text": "We won!", "id": "a\nb"}
                ]
            },
            "/demonstrations/0/id",
        ),
    ],
)
async def test_a_batch_or_demonstrations_not_as_they_should_be_are_refused(
    standing_service: "Service", problem: Any, path: str, body: Any, pointer: str
) -> None:
    """The pointer leads into the list."""
    answer = await post(standing_service, path, json.dumps(body).encode())

    assert problem(answer) == (422, "invalid-request")
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert await nothing_stored(standing_service)


@pytest.mark.parametrize("path", [TURN, "/batch", "/demonstrations"])
async def test_an_empty_body_is_refused(
    standing_service: "Service", problem: Any, path: str
) -> None:
    """There is nothing to read."""
    answer = await post(standing_service, path, b"")

    assert problem(answer) == (422, "invalid-request")


@pytest.mark.parametrize("path", [TURN, "/batch", "/demonstrations"])
@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "json",
        "\xff",
    ],
)
async def test_a_body_that_is_not_declared_as_json_is_refused(
    standing_service: "Service", problem: Any, path: str, content_type: str | None
) -> None:
    """So that no web page can have a browser send one unasked."""
    answer = await standing_service.client.post(
        path,
        content=json.dumps(SAID).encode(),
        headers={} if content_type is None else {b"Content-Type": content_type.encode("latin-1")},
    )

    assert problem(answer) == (415, "unsupported-media-type")
    assert await nothing_stored(standing_service)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/json;charset=UTF-8",
        "application/json;charset=utf8",
        'application/json; charset="UTF-8"',
        "application/json; charset=us-ascii",
        'application/json; profile="; charset=latin-1"',
        "application/vnd.erc+json",
    ],
)
async def test_json_may_be_declared_in_each_usual_way(
    standing_service: "Service", dialogue_id: str, content_type: str
) -> None:
    """With a charset or without, in any case."""
    answer = await standing_service.client.post(
        f"/dialogues/{dialogue_id}/utterances",
        content=json.dumps(SAID).encode(),
        headers={"Content-Type": content_type},
    )

    assert answer.status_code == 201


@pytest.mark.parametrize(
    "encoded", ["a" * 201, "a%0Ab", "%00", "%7F", "%C2%85", "%FF", "%E2%80%8B", "%E2%80%AE"]
)
async def test_an_id_that_does_not_identify_is_refused_on_every_route(
    standing_service: "Service", problem: Any, encoded: str
) -> None:
    """Too long, not printable, or bytes that are no UTF-8, which a server would mix up."""
    client = standing_service.client
    answers = [
        await standing_service.say(encoded, "Ann", "We won!"),
        await standing_service.forecast(encoded, speaker="Ann"),
        *(
            [
                await client.request(method, f"/{member}/{encoded}")
                for method in ("GET", "DELETE")
                for member in ("dialogues", "demonstrations")
            ]
        ),
    ]

    assert {problem(answer) for answer in answers} == {(422, "invalid-request")}
    named = [answer.json()["errors"][0]["parameter"] for answer in answers]
    assert sorted(named) == ["demonstration_id"] * 2 + ["dialogue_id"] * 4


@pytest.mark.parametrize("encoded", ["", "a/b", "a%2Fb"])
async def test_an_id_with_a_slash_is_another_path(
    standing_service: "Service", problem: Any, encoded: str
) -> None:
    """Encoded or not."""
    answer = await standing_service.say(encoded, "Ann", "We won!")

    assert problem(answer) == (404, "no-such-path")


async def test_a_text_and_a_speaker_as_long_as_allowed_are_taken(
    standing_service: "Service", dialogue_id: str
) -> None:
    """Characters are counted, not bytes."""
    flags = "\N{PARTY POPPER}" * 100
    answer = await standing_service.say(dialogue_id, flags, " " * 1999 + "!")

    assert answer.status_code == 201


async def test_of_many_faults_the_first_are_shown(
    standing_service: "Service", problem: Any
) -> None:
    """A body full of faults does not make an answer as large."""
    body = SAID | {f"stray {n}": n for n in range(50)}

    answer = await post(standing_service, TURN, json.dumps(body).encode())

    assert problem(answer) == (422, "invalid-request")
    assert len(answer.json()["errors"]) == 20
    assert "(and 49 more)" in answer.json()["detail"]


@pytest.mark.parametrize("path", [TURN, "/batch", "/demonstrations"])
@pytest.mark.parametrize(
    "content",
    [
        b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"text": ' + b"[" * 300 + b"]" * 300 + b"}",
        json.dumps({f"stray {n}": n for n in range(5000)}).encode(),
        b'{"dialogues": [' + b"{}," * 300_000 + b"{}]}",
    ],
    ids=["deeper than is parsed", "deeper than is written", "members", "items"],
)
async def test_json_of_more_than_any_request_needs_is_refused(
    standing_service: "Service", problem: Any, path: str, content: bytes
) -> None:
    """Before anything is made of it, with an `Idempotency-Key` too."""
    for headers in ({}, {"Idempotency-Key": "k"}):
        answer = await post(standing_service, path, content, **headers)

        assert problem(answer) == (422, "invalid-request")
        assert len(answer.content) < 1000
    assert await nothing_stored(standing_service)


async def test_of_a_list_the_first_item_that_is_not_valid_is_told(
    standing_service: "Service", problem: Any
) -> None:
    """There may be thousands more."""
    body = {"dialogues": [{"id": "a", "utterances": [SAID, {}, {}, SAID | {"text": 5}]}, {}]}

    answer = await post(standing_service, "/batch", json.dumps(body).encode())

    assert problem(answer) == (422, "invalid-request")
    assert [each["pointer"] for each in answer.json()["errors"]] == [
        "/dialogues/0/utterances/1/speaker",
        "/dialogues/0/utterances/1/text",
    ]


class Chunks:
    """A body sent in pieces of 40 bytes, which counts how many have been taken."""

    def __init__(self, content: bytes) -> None:
        self.pieces = [content[n : n + 40] for n in range(0, len(content), 40)]
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.taken += 1
            yield piece


@pytest.mark.parametrize("path", [TURN, "/batch", "/demonstrations"])
async def test_a_body_larger_than_allowed_is_refused_before_it_is_read(
    start_service: "StartService", tmp_path: Path, problem: Any, path: str
) -> None:
    """By its Content-Length at once; without one, when the bytes have come to more."""
    content = json.dumps(SAID).encode().ljust(100)
    async with start_service(tmp_path, Limits(body_bytes=100)) as service:
        declared, counted, lying = (Chunks(b" " * 4000) for _ in range(3))

        answers = [
            await service.client.post(path, content=declared, headers=JSON | {"Content-Length": n})
            for n in ("4000", "101", "9" * 4000)
        ]
        answers.append(await service.client.post(path, content=counted, headers=JSON))
        answers.append(
            await service.client.post(path, content=lying, headers=JSON | {"Content-Length": "10"})
        )

        assert {problem(answer) for answer in answers} == {(413, "body-too-large")}
        assert (declared.taken, counted.taken, lying.taken) == (0, 3, 3)
        assert await nothing_stored(service)
        within = [await post(service, TURN, content)]
        within.append(await service.client.post(TURN, content=Chunks(content), headers=JSON))
        assert [answer.status_code for answer in within] == [201, 201]
