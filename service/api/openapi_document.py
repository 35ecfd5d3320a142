"""The OpenAPI document, completed with what middleware adds to responses."""

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import TypeAdapter

from service.access.keys import Scope
from service.api.bodies.json_bodies import json_response
from service.api.links import prefix
from service.api.policies import Policies, Policy, policy
from service.api.response_headers import (
    ACCEPT_ENCODING,
    APPLIED,
    AUTHENTICATE,
    CONNECTION,
    EVERY_RESPONSE,
    HEADERS,
    QUOTA,
    REQUEST_ID,
    RETRY_AFTER,
    carrying,
)
from service.api.schemas.streams import ITEMS

# Responses with `Retry-After`, and with `WWW-Authenticate`.
_LATER = {"429", "503", "504"}
_UNAUTHORIZED = {"401", "403"}
# Responses that may close the connection for any call; so may any that does not wait for a body.
_LAST = {"400", "401", "403", "503"}


class DocumentedApi(FastAPI):
    """An application whose document includes middleware's headers and a proxy's prefix."""

    def setup(self) -> None:
        async def openapi_json(_: Request) -> Response:
            servers = {"servers": [{"url": prefix()}]} if prefix() else {}
            return json_response(self.openapi() | servers)

        self.add_route(
            "/openapi.json",
            policy(Scope.ADMIN, is_operation=True)(openapi_json),
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
                for status, response in call["responses"].items():
                    added = carrying(*_of_every_response(demanded, call, status))["headers"]
                    response["headers"] = {**added, **response.get("headers", {})}
                    for content in response.get("content", {}).values():
                        if "itemSchema" in content:  # the framework documents a stream as a string
                            content.pop("schema", None)
        return self.openapi_schema or {}


def _schemas(items: Sequence[type]) -> dict[str, Any]:
    _, document = TypeAdapter.json_schemas(
        [(item, "serialization", TypeAdapter(item)) for item in items],
        ref_template="#/components/schemas/{model}",
    )
    schemas: dict[str, Any] = document["$defs"]
    return schemas


def _never_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Drop null from a parameter's schema: it may be omitted, but no header or query is null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**kinds[0], **{name: value for name, value in schema.items() if name != "anyOf"}}


def _of_every_response(policy: Policy, call: dict[str, Any], status: str) -> Iterator[str]:
    yield REQUEST_ID
    yield from EVERY_RESPONSE
    if "security" in call:
        yield from QUOTA
    if policy.priority is not None:
        yield APPLIED
    if status in _LATER:
        yield RETRY_AFTER
    if status in _UNAUTHORIZED:
        yield AUTHENTICATE
    if status == "415":
        yield ACCEPT_ENCODING
    if status in _LAST or (status[0] in "45" and "requestBody" in call):
        yield CONNECTION


def _calls(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, call in methods.items():
            yield method.upper(), path, call
