"""Prompt templates, versioned: the text that the model reads.

A template is a pure function of history, target, demonstrations and label space. Training and
serving render with the same one, so a template never changes once a bundle was trained on it.
`default_v2` is the template of the shipped models.
"""

from collections.abc import Mapping
from types import MappingProxyType

from service.conversation.prompts.default_v2 import V2
from service.conversation.prompts.dialoguellm_v1 import DialoguellmV1
from service.conversation.prompts.instructerc_plain_v1 import InstructercPlainV1
from service.conversation.prompts.instructerc_v1 import InstructercV1
from service.conversation.prompts.protocol import (
    PredictionTemplate,
    Prompt,
    SpeakerTemplate,
    Task,
    Template,
)

TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {t.id: t for t in (InstructercV1(), InstructercPlainV1(), DialoguellmV1(), V2())}
)

__all__ = [
    "TEMPLATES",
    "DialoguellmV1",
    "InstructercPlainV1",
    "InstructercV1",
    "PredictionTemplate",
    "Prompt",
    "SpeakerTemplate",
    "Task",
    "Template",
    "V2",
]
