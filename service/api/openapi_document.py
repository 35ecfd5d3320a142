"""The OpenAPI document, completed with what middleware adds."""

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import TypeAdapter

from service.access.keys import Scope
from service.api.bodies.json_bodies import json_answer
from service.api.links import prefix
from service.api.policies import Policies, Policy, policy
from service.api.response_headers import (
    ACCEPT_ENCODING,
    APPLIED,
    AUTHENTICATE,
    CONNECTION,
    EVERY_ANSWER,
    HEADERS,
    QUOTA,
    REQUEST_ID,
    RETRY_AFTER,
    carrying,
)
from service.api.schemas.streams import ITEMS

# Those that say when to come again, and those that say what is missing.
_LATER = {"429", "503", "504"}
_NOT_LET_IN = {"401", "403"}
# Those that may end the connection whatever the call; any that does not wait for a body does.
_LAST = {"400", "401", "403", "503"}


class DocumentedApi(FastAPI):
    """An application whose document also has what middleware answers with, and a proxy's prefix."""

    def setup(self) -> None:
        async def answer(_: Request) -> Response:
            servers = {"servers": [{"url": prefix()}]} if prefix() else {}
            return json_answer(self.openapi() | servers)

        self.add_route(
            "/openapi.json",
            policy(Scope.ADMIN, is_operation=True)(answer),
            include_in_schema=False,
        )

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            components = document["components"]
            components["headers"] = dict(HEADERS)
            components["schemas"] |= _schemas(ITEMS)
            policies = Policies(self.routes)
            for method, path, call in _calls(document):
                demanded = policies.of(method, path)
                for parameter in call.get("parameters", ()):
                    parameter["schema"] = _never_null(parameter["schema"])
                for status, answer in call["responses"].items():
                    added = carrying(*_of_every_answer(demanded, call, status))["headers"]
                    answer["headers"] = {**added, **answer.get("headers", {})}
                    for content in answer.get("content", {}).values():
                        if "itemSchema" in content:  # the framework's, of the stream as one text
                            content.pop("schema", None)
        return self.openapi_schema or {}


def _schemas(items: Sequence[type]) -> dict[str, Any]:
    _, found = TypeAdapter.json_schemas(
        [(item, "serialization", TypeAdapter(item)) for item in items],
        ref_template="#/components/schemas/{model}",
    )
    schemas: dict[str, Any] = found["$defs"]
    return schemas


def _never_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter may be left out; no header and no query can be null."""
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**kinds[0], **{name: value for name, value in schema.items() if name != "anyOf"}}


def _of_every_answer(policy: Policy, call: dict[str, Any], status: str) -> Iterator[str]:
    yield REQUEST_ID
    yield from EVERY_ANSWER
    if "security" in call:
        yield from QUOTA
    if policy.priority is not None:
        yield APPLIED
    if status in _LATER:
        yield RETRY_AFTER
    if status in _NOT_LET_IN:
        yield AUTHENTICATE
    if status == "415":
        yield ACCEPT_ENCODING
    if status in _LAST or (status[0] in "45" and "requestBody" in call):
        yield CONNECTION


def _calls(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, call in methods.items():
            yield method.upper(), path, call
