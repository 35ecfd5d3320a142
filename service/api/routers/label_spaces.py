"""Which labels there are, in which of them the model answers, and which languages it reads."""

from dataclasses import asdict

from fastapi import APIRouter, Response

from service.api.bodies import json_answer
from service.api.problem_kinds import ADMISSION_PROBLEMS
from service.api.problems import documented
from service.api.schemas import LabelSpacesOut
from service.api.services import ServicesDep

router = APIRouter(tags=["label spaces"])


@router.get(
    "/label-spaces", response_model=LabelSpacesOut, responses=documented(*ADMISSION_PROBLEMS)
)
async def list_label_spaces(services: ServicesDep) -> Response:
    """Every known label space; those that are `available` can be asked for."""
    bundle = services.recognizer.bundle
    return json_answer(
        {
            "languages": bundle.languages,
            "label_spaces": [
                {
                    "name": space.name,
                    "title": space.title,
                    "available": space.name in bundle.label_spaces,
                    "labels": [asdict(label) for label in space.labels],
                }
                for space in services.label_spaces.values()
            ],
        }
    )
