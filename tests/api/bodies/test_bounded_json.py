"""What JSON is taken to be read at all."""

import json
from typing import Any

import orjson
import pytest
from fastapi.exceptions import RequestValidationError

from service.api.bodies.json_bodies import read_json
from service.settings import Limits

SAID = {"speaker": "Ann", "text": "We won!", "description": "She jumps."}


def batch(dialogues: int, utterances: int, utterance: Any = SAID) -> bytes:
    each = {"id": "a", "utterances": [utterance] * utterances}
    return json.dumps({"label_space": "meld", "dialogues": [each] * dialogues}).encode()


def nested(levels: int) -> bytes:
    return b'{"text":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b'"{[,"',
        b"[[], {}, 1, true]",
        nested(12),
        batch(100, 10),
        batch(1, 1001),
        batch(100, 10, SAID | {"text": '[{",]}' * 300}),
        b'{"text": "' + rb"\"" * 100_000 + b'"}',
        b'{"text": "' + b"," * 1_000_000 + b'"}',
    ],
    ids=lambda content: repr(content[:30]),
)
def test_what_requests_need_is_read_by_the_letter(content: bytes) -> None:
    """Whatever stands in strings, and somewhat more than the limits, which are told of later."""
    assert read_json(content, Limits()) == json.loads(content)


@pytest.mark.parametrize(
    "content",
    [
        b'{"dialogues": [' + b"{}," * 300_000 + b"{}]}",
        b'{"dialogues": [' + b'"",' * 300_000 + b'""]}',
        b'{"dialogues": [' + b"0," * 500_000 + b"0]}",
        b'{"dialogues": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"{" + b",".join(b'"%d":0' % n for n in range(80_000)) + b"}",
        b"{" + b'"a":0,' * 150_000 + b'"a":0}',
        batch(100, 200),
        rb'{"\\":"","a":"\"' + b'",' + b"[]," * 300_000 + b"0}",
    ],
    ids=lambda content: repr(content[:30]),
)
def test_more_values_than_any_request_needs_are_not_parsed(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing them alone would hold everybody up."""

    def parse(_: bytes) -> Any:
        raise AssertionError("parsed")

    monkeypatch.setattr(orjson, "loads", parse)

    with pytest.raises(RequestValidationError) as refusal:
        read_json(content, Limits())

    assert "9800 values" in refusal.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (nested(13), ("text", *[0] * 11), "deeper than 12 levels"),
        (nested(1000), ("text", *[0] * 11), "deeper than 12 levels"),
        (b'{"a":' * 13 + b"{}" + b"}" * 13, tuple("a" * 12), "deeper than 12 levels"),
        (
            json.dumps([0, {str(n): n for n in range(65)}]).encode(),
            (1,),
            "has 65 members, at most 64",
        ),
        (json.dumps({"b": {"a" * 201: 1}}).encode(), ("b",), "whose name has 201 characters"),
    ],
    ids=["lists", "many lists", "objects", "members", "name"],
)
def test_what_has_the_wrong_shape_is_refused_where_it_stands(
    content: bytes, where: tuple[str | int, ...], what: str
) -> None:
    """At the first such place; a name that is too long is not repeated."""
    with pytest.raises(RequestValidationError) as refusal:
        read_json(content, Limits())

    (fault,) = refusal.value.errors()
    assert fault["loc"] == ("body", *where)
    assert what in fault["msg"]


def test_the_values_that_are_read_follow_the_limits() -> None:
    """Whoever allows larger batches has them read."""
    content = batch(1, 20_000)

    with pytest.raises(RequestValidationError):
        read_json(content, Limits())
    assert read_json(content, Limits(batch_utterances=20_000)) == json.loads(content)
