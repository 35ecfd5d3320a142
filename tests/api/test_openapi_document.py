"""The documentation that the service gives of itself."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import TypeAdapter

import service.api
from service.api.problems.kinds import KINDS
from service.api.schemas.dialogues import ForecastOut, UtteranceOut

if TYPE_CHECKING:
    from tests.api.conftest import Service

COMMITTED = Path(service.api.__file__).with_name("openapi.json")

BODY = {"400", "413", "415", "422"}
# Of the callers, and of all that is asked.
BUSY = {"401", "403", "429", "503", "504"}

# Of no call, or of all.
ANY_REQUEST = {
    "bad-request",
    "head-too-large",
    "misdirected-request",
    "cross-site-request",
    "method-not-allowed",
    "internal-error",
    "client-left",
}

# Every call, with all statuses that it documents.
CALLS = {
    ("post", "/dialogues/{dialogue_id}/utterances"): {"201", "409", "410", "412", *BUSY} | BODY,
    ("get", "/dialogues"): {"200", "422", *BUSY},
    ("get", "/dialogues/{dialogue_id}"): {"200", "304", "404", "422", *BUSY},
    ("get", "/dialogues/{dialogue_id}/utterances/{index}"): {"200", "404", "422", *BUSY},
    ("get", "/dialogues/{dialogue_id}/summary"): {"200", "304", "404", "422", *BUSY},
    ("get", "/dialogues/{dialogue_id}/events"): {"200", "204", "404", "406", "422", *BUSY},
    ("get", "/dialogues/{dialogue_id}/forecast"): {"200", "404", "422", *BUSY},
    ("delete", "/dialogues/{dialogue_id}"): {"204", "404", "409", "410", "412", "422", *BUSY},
    ("put", "/dialogues/{dialogue_id}/utterances/{index}/label"): (
        {"200", "404", "409", "410", "412", *BUSY} | BODY
    ),
    ("delete", "/dialogues/{dialogue_id}/utterances/{index}/label"): {
        "204",
        "404",
        "409",
        "410",
        "412",
        "422",
        *BUSY,
    },
    ("get", "/utterances"): {"200", "422", *BUSY},
    ("get", "/corrections"): {"200", "422", *BUSY},
    ("post", "/batch"): {"200", "202", "406", "409", "410", "429", *BUSY} | BODY,
    ("post", "/transcripts"): {"200", "406", "413", "415", "422", *BUSY},
    ("get", "/jobs/{job_id}"): {"200", "404", "422", *BUSY},
    ("get", "/jobs/{job_id}/results"): {"200", "404", "422", *BUSY},
    ("delete", "/jobs/{job_id}"): {"204", "404", "409", "410", "422", *BUSY},
    ("get", "/demonstrations"): {"200", "422", *BUSY},
    ("post", "/demonstrations"): {"201", "409", "410", *BUSY} | BODY,
    ("get", "/demonstrations/{demonstration_id}"): {"200", "404", "422", *BUSY},
    ("delete", "/demonstrations/{demonstration_id}"): {"204", "404", "409", "410", "422", *BUSY},
    ("get", "/label-spaces"): {"200", *BUSY},
    ("get", "/label-spaces/{name}"): {"200", "404", "422", *BUSY},
    ("put", "/label-spaces/{name}"): {"200", "409", "410", *BUSY} | BODY,
    ("delete", "/label-spaces/{name}"): {"204", "404", "409", "410", "422", *BUSY},
    ("get", "/problems"): {"200", "503", "504"},
    ("get", "/problems/{name}"): {"200", "404", "422", "503", "504"},
    ("get", "/livez"): {"200", "503"},
    ("get", "/readyz"): {"200", "503"},
    ("get", "/metrics"): {"200", "401", "403", "429"},
}


@pytest.fixture
def document(service: "Service") -> Any:
    return service.app.openapi()


def test_the_committed_document_is_the_one_that_is_served(document: Any) -> None:
    """After a change that is meant, `make openapi` writes it anew; what clients see is in the diff.

    The version is the package's, which the application of this test has not.
    """
    committed = json.loads(COMMITTED.read_text("utf-8"))

    assert committed["info"].pop("version") == version("instructerc")
    del document["info"]["version"]
    assert committed == document


def calls(document: Any) -> Iterator[tuple[tuple[str, str], Any]]:
    for path, methods in document["paths"].items():
        for method, call in methods.items():
            yield (method, path), call


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_call_documents_its_answers_and_no_others(document: Any) -> None:
    """A status that a route can answer with is to be found at /docs."""
    assert {call: set(operation["responses"]) for call, operation in calls(document)} == CALLS


def test_every_problem_is_documented_as_one(document: Any) -> None:
    """With the media type, the members and an example of each kind."""
    for call, operation in calls(document):
        for status, answer in operation["responses"].items():
            if status >= "400":
                content = answer["content"]["application/problem+json"]
                assert list(answer["content"]) == ["application/problem+json"], call
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                for name, example in content["examples"].items():
                    assert example["value"]["type"] == f"/problems/{name}"
                    assert str(example["value"]["status"]) == status


def test_every_kind_of_problem_is_documented_somewhere(document: Any) -> None:
    """But those that any request may meet, whatever its call."""
    named = {
        name
        for _, operation in calls(document)
        for status, answer in operation["responses"].items()
        if status >= "400"
        for name in answer["content"]["application/problem+json"]["examples"]
    }

    assert set(KINDS) - named == ANY_REQUEST
    for name in ANY_REQUEST:
        assert f"`{name}`" in document["info"]["description"]


def test_every_reference_leads_somewhere(document: Any) -> None:
    """The document stands for itself."""
    components = document["components"]
    known = {f"#/components/{kind}/{name}" for kind in components for name in components[kind]}

    assert set(references(document)) <= known


def test_every_call_has_words_a_tag_and_a_name_of_its_own(document: Any) -> None:
    """Clients are generated from it."""
    operations = [call for _, call in calls(document)]
    tags = {tag["name"] for tag in document["tags"]}

    assert all(call["description"] for call in operations)
    assert {tag for call in operations for tag in call["tags"]} == tags
    assert len({call["operationId"] for call in operations}) == len(operations)


def test_every_call_but_those_of_probes_says_that_it_takes_a_key(document: Any) -> None:
    """Generated clients send one."""
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    without = {path for (_, path), call in calls(document) if "security" not in call}
    assert without == {"/livez", "/readyz", "/problems", "/problems/{name}"}


async def test_the_example_of_every_body_is_a_good_request(
    service: "Service", document: Any
) -> None:
    """Whoever copies it gets an answer."""
    sent = 0
    for (method, path), call in calls(document):
        if "requestBody" not in call or path == "/transcripts":
            continue
        schema = call["requestBody"]["content"]["application/json"]["schema"]
        name = schema["$ref"].rsplit("/", 1)[1]
        for example in document["components"]["schemas"][name]["examples"]:
            answer = await service.client.request(
                method, path.format(dialogue_id="call-42", index=0, name="callers"), json=example
            )
            assert answer.is_success, answer.text
            sent += 1

    assert sent == 6


async def test_the_example_of_a_file_is_one(service: "Service", document: Any) -> None:
    """And the response's is what it becomes, but for the emotion."""
    call = document["paths"]["/transcripts"]["post"]
    sent = call["requestBody"]["content"]["text/vtt"]["example"]

    answer = await service.client.post(
        "/transcripts", content=sent, headers={"Content-Type": "text/vtt", "Accept": "text/vtt"}
    )

    expected = call["responses"]["200"]["content"]["text/vtt"]["example"]
    assert re.sub(r"<c\.\w+>", "<c>", answer.text) == re.sub(r"<c\.\w+>", "<c>", expected)


@pytest.mark.parametrize("answer", [UtteranceOut, ForecastOut])
def test_the_example_of_an_answer_is_one(answer: Any) -> None:
    """It has each field, no more and no less."""
    adapter = TypeAdapter(answer)
    for example in adapter.json_schema()["examples"]:
        assert adapter.validate_python(example, strict=True) == example


async def test_the_documentation_is_served(service: "Service") -> None:
    """As it is committed."""
    document = await service.client.get("/openapi.json")

    assert document.json()["info"]["version"] == "0.0.0"
