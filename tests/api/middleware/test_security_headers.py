"""What every answer tells browsers and caches."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.api.conftest import Service

SAID = {"speaker": "Ann", "text": "We won!"}
BATCH = {"dialogues": [{"id": "a", "utterances": [SAID]}]}
LINE = b'{"id": "a", "utterances": [{"speaker": "Ann", "text": "We won!"}]}\n'
LINES = {"Content-Type": "application/x-ndjson"}


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("POST", "/dialogues/call-42/utterances", {"json": SAID}),
        ("PUT", "/dialogues/call-42/utterances/0/label", {"json": {"label": "joy"}}),
        ("GET", "/dialogues/call-42/forecast", {}),
        ("POST", "/batch", {"json": BATCH}),
        ("POST", "/batch", {"content": LINE, "headers": LINES}),
        ("GET", "/demonstrations", {}),
        ("GET", "/dialogues/nobody", {}),
        ("GET", "/dialogues/call-42?after=x", {}),
        ("GET", "/nothing", {}),
        ("GET", "/label-spaces", {}),
        ("DELETE", "/dialogues/call-42", {}),
    ],
)
async def test_no_answer_is_kept_by_a_cache(
    service: "Service", method: str, path: str, sent: dict[str, Any]
) -> None:
    """What has been erased would still be shown; nor is an answer taken for another kind."""
    await service.say("call-42", "Ann", "We won!")

    answer = await service.client.request(method, path, **sent)

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_timeline_is_kept_by_its_client_alone_who_asks_each_time(
    service: "Service",
) -> None:
    """Or its `ETag` would be of no use; 304 says so again."""
    await service.say("call-42", "Ann", "We won!")

    read = await service.client.get("/dialogues/call-42")
    known = {"If-None-Match": read.headers["etag"]}
    again = await service.client.get("/dialogues/call-42", headers=known)
    await service.client.delete("/dialogues/call-42")
    erased = await service.client.get("/dialogues/call-42", headers=known)

    assert [each.status_code for each in (read, again, erased)] == [200, 304, 404]
    kept = [each.headers["cache-control"] for each in (read, again, erased)]
    assert kept == ["private, no-cache", "private, no-cache", "no-store"]


def test_the_document_has_them_for_every_answer(service: "Service") -> None:
    """Of refusals too."""
    document = service.app.openapi()

    for methods in document["paths"].values():
        for call in methods.values():
            for answer in call["responses"].values():
                assert {"Cache-Control", "X-Content-Type-Options"} <= answer["headers"].keys()
