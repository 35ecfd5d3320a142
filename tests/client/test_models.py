"""The client's models are those of the service's document."""

import json

import pytest

from instructerc import models
from tests.client.generation import DOCUMENT, REPOSITORY, generated


def test_the_committed_models_are_made_of_the_committed_document() -> None:
    """`make openapi` writes both."""
    pytest.importorskip("datamodel_code_generator", reason="`make install` brings it")

    document = json.loads(DOCUMENT.read_text("utf-8"))

    models = REPOSITORY / "service" / "client" / "instructerc" / "models.py"
    assert generated(document) == models.read_text("utf-8")


def test_every_schema_has_its_members() -> None:
    """Whether or not the generator is installed."""
    schemas = json.loads(DOCUMENT.read_text("utf-8"))["components"]["schemas"]

    assert len(schemas) > 50
    for name, schema in schemas.items():
        model = getattr(models, name)
        if "properties" in schema:
            assert list(model.model_fields) == list(schema["properties"]), name
            required = {key for key, each in model.model_fields.items() if each.is_required()}
            assert required == set(schema.get("required", ())), name


def test_members_of_a_later_service_are_passed_over() -> None:
    body = {"bundle": "erc-mini", "version": "4", "template": "v2"}

    assert models.Model.model_validate(body | {"added_later": 1}) == models.Model(**body)
