"""`python -m tests.client.generation` prints the client's models, as `make openapi` writes them.

They are made of the OpenAPI document alone, without a network. Only types are kept: limits and
patterns are the service's to check, and additional members are allowed, so that a client reads the
answers of a later service.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "service" / "api" / "openapi.json"

_LEFT_OUT = {
    *("title", "examples", "additionalProperties", "pattern", "minLength", "maxLength"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"),
    *("minProperties", "maxProperties"),
}
_HEADER = (
    '"""The bodies of requests and responses, made of the OpenAPI document by `make openapi`."""'
)
_OPTIONS = (
    *("--input-file-type", "openapi", "--openapi-scopes", "schemas"),
    *("--output-model-type", "pydantic_v2.BaseModel", "--target-python-version", "3.11"),
    *("--custom-file-header", _HEADER, "--enum-field-as-literal", "all", "--no-formatters"),
    *("--use-annotated", "--use-standard-collections", "--use-union-operator"),
    *("--use-schema-description", "--use-field-description", "--collapse-root-models"),
)


def generated(document: dict[str, Any]) -> str:
    """The module of the models of an OpenAPI document.

    Raises:
        subprocess.CalledProcessError: the generator refuses it; it has said why.
    """
    schemas = {name: _plain(schema) for name, schema in document["components"]["schemas"].items()}
    kept = {
        "openapi": document["openapi"],
        "info": document["info"],
        "paths": {},
        "components": {"schemas": schemas},
    }
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "openapi.json", Path(folder) / "models.py"
        source.write_text(json.dumps(kept), "utf-8")
        generator = [sys.executable, "-m", "datamodel_code_generator", *_OPTIONS]
        subprocess.run([*generator, "--input", str(source), "--output", str(target)], check=True)
        ruff = [sys.executable, "-m", "ruff", "--quiet"]
        options = ["--config", str(REPOSITORY / "pyproject.toml"), str(target)]
        subprocess.run([*ruff, "check", "--select", "I", "--fix", *options], check=True)
        subprocess.run([*ruff, "format", *options], check=True)
        return target.read_text("utf-8")


def _plain(schema: Any) -> Any:
    """A schema without what the models leave out; members of that name stay."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {}
    for key, value in schema.items():
        if key == "properties":
            plain[key] = {name: _plain(member) for name, member in value.items()}
        elif key not in _LEFT_OUT or (key == "additionalProperties" and value):
            plain[key] = _plain(value)
    return plain


if __name__ == "__main__":
    print(generated(json.loads(DOCUMENT.read_text("utf-8"))), end="")
