"""Which labels there are, in which of them the model answers, and which languages it reads."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response

from service.api.bodies import json_answer
from service.api.problem_kinds import ADMISSION_PROBLEMS
from service.api.problems import documented
from service.api.schemas import LabelSpacesOut
from service.api.services import ServicesDep
from service.conversation.derived import DerivedLabelSpace
from service.decoding.bundle import Bundle
from service.recognition.answering import AnswerSpace, is_available

router = APIRouter(tags=["label spaces"])


@router.get(
    "/label-spaces", response_model=LabelSpacesOut, responses=documented(*ADMISSION_PROBLEMS)
)
async def list_label_spaces(services: ServicesDep) -> Response:
    """Every known label space; those that are `available` can be asked for."""
    bundle = services.answerer.bundle
    spaces = (*services.label_spaces.values(), *services.answerer.derived.values())
    return json_answer(
        {
            "languages": bundle.languages,
            "label_spaces": [_document(space, bundle) for space in spaces],
        }
    )


def _document(space: AnswerSpace, bundle: Bundle) -> dict[str, Any]:
    if isinstance(space, DerivedLabelSpace):
        source = space.source.name
        labels = [
            {"name": each.name, "verbalizer": None, "unified": each.unified, "of": dict(each.of)}
            for each in space.labels
        ]
    else:
        source = None
        labels = [{**asdict(each), "of": None} for each in space.labels]
    return {
        "name": space.name,
        "title": space.title,
        "derived_from": source,
        "available": is_available(bundle, space),
        "labels": labels,
    }
