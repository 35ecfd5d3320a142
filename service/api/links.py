"""Which calls an answer leads to (OpenAPI link objects)."""

from typing import Any


def leading_to(*operations: str, **parameters: str) -> dict[str, Any]:
    """The part of a route's `responses=` that names the calls that take from its answer.

    Args:
        operations: their operation ids.
        parameters: each with the member of the answer that it is.
    """
    taken = {name: f"$response.body#/{member}" for name, member in parameters.items()}
    return {"links": {each: {"operationId": each, "parameters": taken} for each in operations}}
