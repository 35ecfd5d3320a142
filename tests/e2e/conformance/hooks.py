"""What schemathesis is told about this service; it loads this module by its name."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import schemathesis
from schemathesis import (
    Case,
    CheckContext,
    DeserializationContext,
    HookContext,
    Response,
    SerializationContext,
)
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData

NDJSON = "application/x-ndjson"
# Of files whose content is text.
FILES = (
    *("text/vtt", "text/csv", "text/tab-separated-values", "text/srt", "application/x-subrip"),
    "application/octet-stream",
)

# HTTP's own, which the server writes, and what is said to browsers alone.
UNDOCUMENTED = frozenset(
    {
        "allow",
        "content-length",
        "content-type",
        "date",
        "transfer-encoding",
        "x-content-type-options",
    }
)


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: Any) -> None:
    """Hold answers to the letter, and have bodies of lines made of dialogues.

    The document leaves room for members that later versions may add. Here an answer has those that
    the document names and no others. One call has the tag of another version as its example, for
    few tags that are made up are tags.
    """
    for schema in raw_schema["components"]["schemas"].values():
        if schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
    for call in calls(raw_schema):
        for part in (call.get("requestBody", {}), *call["responses"].values()):
            lines = part.get("content", {}).get(NDJSON)
            if lines is not None:
                lines["schema"] = {"type": "array", "items": lines["itemSchema"]}
                lines.pop("example", None)
    correct = raw_schema["paths"]["/dialogues/{dialogue_id}/utterances/{index}/label"]["put"]
    (condition,) = (each for each in correct["parameters"] if each["name"] == "If-Match")
    condition["example"] = '"5f3a.2"'


def calls(document: Any) -> Iterator[Any]:
    for methods in document["paths"].values():
        yield from methods.values()


@schemathesis.serializer(NDJSON)
def write_lines(context: SerializationContext, value: Any) -> bytes:
    lines = value if isinstance(value, list) else [value]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@schemathesis.serializer(*FILES)
def write_file(context: SerializationContext, value: Any) -> bytes:
    return str(value).encode()


@schemathesis.deserializer(NDJSON)
def read_lines(context: DeserializationContext, response: Response) -> Any:
    return [json.loads(line) for line in response.content.decode().splitlines()]


@schemathesis.check
def documented_headers(context: CheckContext, response: Response, case: Case[Any]) -> None:
    """An answer carries the headers that the document names, and no others."""
    definition = case.operation.responses.find_by_status_code(response.status_code)
    if definition is None:
        return
    documented = {name.lower() for name, _ in definition.headers.items()}
    undocumented = {name.lower() for name in response.headers} - documented - UNDOCUMENTED
    assert not undocumented, f"headers that the document does not name: {sorted(undocumented)}"


@schemathesis.hook
def filter_failure(
    context: HookContext, failure: Failure, case: Case[Any], response: Response
) -> bool:
    """Whether a failure is the service's."""
    if isinstance(failure, RejectedPositiveData):
        # Where a pattern is beyond schemathesis, it makes values that the pattern refuses.
        return all(is_documented(parameter, case) for parameter in parameters(case))
    if isinstance(failure, AcceptedNegativeData) and case.media_type == NDJSON:
        # A broken line concerns no other: it has its error in the answer.
        return not any("error" in line for line in read_lines(None, response))  # type: ignore[arg-type]
    return True


def parameters(case: Case[Any]) -> list[Any]:
    declared: list[Any] = case.operation.definition.raw.get("parameters", [])
    return declared


def is_documented(parameter: Any, case: Case[Any]) -> bool:
    """Whether what a case has for a parameter is as its schema says."""
    values = {"path": case.path_parameters, "query": case.query, "header": case.headers}
    given = (values[parameter["in"]] or {}).get(parameter["name"])
    if not isinstance(given, str) or "pattern" not in parameter["schema"]:
        return True
    return jsonschema_rs.validator_for(parameter["schema"]).is_valid(unquote(given))
