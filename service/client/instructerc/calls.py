"""Every call of the API as data: what is sent, and how its answer is read. Sends nothing itself.

The two clients share these; a call that writes has an idempotency key from the beginning, so that
each of its attempts has the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Literal, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from instructerc import models
from instructerc.errors import UnexpectedAnswer

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Query = Mapping[str, str | int | float | bool | datetime | None]

JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"
_KEY = "Idempotency-Key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One call.

    Attributes:
        read: maps the body of a success to the result.
        is_slow: whether it may take as long as a batch.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    is_slow: bool = False


def result_of(call: Call[T], body: bytes) -> T:
    """The result of a call that is answered with success.

    Raises:
        UnexpectedAnswer: the body is not what the call answers.
    """
    try:
        return call.read(body)
    except ValidationError as error:
        raise UnexpectedAnswer(f"{call.method} {call.path}: {error}") from error


def add_utterance(
    dialogue_id: str,
    utterance: models.UtteranceIn,
    if_match: str | None = None,
    idempotency_key: str | None = None,
) -> Call[models.UtteranceOut]:
    return _write(
        "POST",
        f"{_dialogue(dialogue_id)}/utterances",
        _reads(models.UtteranceOut),
        utterance,
        if_match=if_match,
        key=idempotency_key,
    )


def read_utterance(dialogue_id: str, index: int, explain: bool) -> Call[models.ExplainedUtterance]:
    return _get(
        f"{_dialogue(dialogue_id)}/utterances/{index}",
        models.ExplainedUtterance,
        {"explain": explain or None},
        is_slow=explain,
    )


def read_dialogue(
    dialogue_id: str, after: int | None, limit: int | None
) -> Call[models.TimelineOut]:
    return _get(_dialogue(dialogue_id), models.TimelineOut, {"after": after, "limit": limit})


def list_dialogues(query: Query) -> Call[models.DialoguePage]:
    return _get("/dialogues", models.DialoguePage, query)


def page_of_dialogues(path: str) -> Call[models.DialoguePage]:
    """The page that `next` of another one leads to."""
    return _get(path, models.DialoguePage)


def list_utterances(query: Query) -> Call[models.UtterancePage]:
    return _get("/utterances", models.UtterancePage, query)


def export_corrections(label_space: str, updated_since: datetime | None) -> Call[None]:
    return Call(
        method="GET",
        path="/corrections",
        read=_nothing,
        query=_query({"label_space": label_space, "updated_since": updated_since}),
        headers={"Accept": NDJSON},
        is_slow=True,
    )


def summarize_dialogue(dialogue_id: str) -> Call[models.SummaryOut]:
    return _get(f"{_dialogue(dialogue_id)}/summary", models.SummaryOut)


def forecast_turn(dialogue_id: str, speaker: str, label_space: str) -> Call[models.ForecastOut]:
    query = {"speaker": speaker, "label_space": label_space}
    return _get(f"{_dialogue(dialogue_id)}/forecast", models.ForecastOut, query)


def erase_dialogue(dialogue_id: str, if_match: str | None) -> Call[None]:
    return _write("DELETE", _dialogue(dialogue_id), _nothing, if_match=if_match)


def correct_label(
    dialogue_id: str,
    index: int,
    label: models.LabelIn,
    if_match: str | None = None,
    idempotency_key: str | None = None,
) -> Call[models.CorrectedOut]:
    return _write(
        "PUT",
        f"{_dialogue(dialogue_id)}/utterances/{index}/label",
        _reads(models.CorrectedOut),
        label,
        if_match=if_match,
        key=idempotency_key,
    )


def take_label_back(dialogue_id: str, index: int, if_match: str | None) -> Call[None]:
    path = f"{_dialogue(dialogue_id)}/utterances/{index}/label"
    return _write("DELETE", path, _nothing, if_match=if_match)


def follow_dialogue(dialogue_id: str, last_event_id: str | None) -> Call[None]:
    headers = {"Accept": EVENTS}
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    path = f"{_dialogue(dialogue_id)}/events"
    return Call(method="GET", path=path, read=_nothing, headers=headers)


def score_dialogues(
    dialogues: Sequence[models.DialogueIn], label_space: str, summary: bool
) -> Call[models.BatchOut]:
    """It stores nothing, so that it needs no key to be repeated."""
    return Call(
        method="POST",
        path="/batch",
        read=_reads(models.BatchOut),
        query=_query({"summary": summary or None}),
        headers={"Content-Type": JSON},
        content=_json(models.BatchIn(dialogues=list(dialogues), label_space=label_space)),
        is_slow=True,
    )


def score_lines(content: bytes, label_space: str, summary: bool) -> Call[None]:
    return Call(
        method="POST",
        path="/batch",
        read=_nothing,
        query=_query({"label_space": label_space, "summary": summary or None}),
        headers={"Content-Type": NDJSON, "Accept": NDJSON},
        content=content,
        is_slow=True,
    )


def score_transcript(content: bytes, media_type: str, query: Query) -> Call[models.TranscriptOut]:
    """As of `score_dialogues`."""
    return Call(
        method="POST",
        path="/transcripts",
        read=_reads(models.TranscriptOut),
        query=_query(query),
        headers={"Content-Type": media_type, "Accept": JSON},
        content=content,
        is_slow=True,
    )


def start_job(
    dialogues: Sequence[models.DialogueIn], label_space: str, idempotency_key: str | None
) -> Call[models.JobOut]:
    return _write(
        "POST",
        "/batch",
        _reads(models.JobOut),
        models.BatchIn(dialogues=list(dialogues), label_space=label_space),
        key=idempotency_key,
        prefer="respond-async",
    )


def read_job(job_id: str) -> Call[models.JobOut]:
    return _get(f"/jobs/{_segment(job_id)}", models.JobOut)


def read_results(job_id: str) -> Call[None]:
    path = f"/jobs/{_segment(job_id)}/results"
    headers = {"Accept": NDJSON}
    return Call(method="GET", path=path, read=_nothing, headers=headers, is_slow=True)


def delete_job(job_id: str) -> Call[None]:
    return _write("DELETE", f"/jobs/{_segment(job_id)}", _nothing)


def list_demonstrations(query: Query) -> Call[models.DemonstrationPage]:
    return _get("/demonstrations", models.DemonstrationPage, query)


def add_demonstrations(
    demonstrations: Sequence[models.DemonstrationIn],
) -> Call[models.DemonstrationsOut]:
    body = models.DemonstrationsIn(demonstrations=list(demonstrations))
    return _write("POST", "/demonstrations", _reads(models.DemonstrationsOut), body)


def read_demonstration(demonstration_id: str) -> Call[models.DemonstrationOut]:
    return _get(f"/demonstrations/{_segment(demonstration_id)}", models.DemonstrationOut)


def delete_demonstration(demonstration_id: str) -> Call[None]:
    return _write("DELETE", f"/demonstrations/{_segment(demonstration_id)}", _nothing)


def list_label_spaces() -> Call[models.LabelSpacesOut]:
    return _get("/label-spaces", models.LabelSpacesOut)


def read_label_space(name: str) -> Call[models.LabelSpaceOut]:
    return _get(f"/label-spaces/{_segment(name)}", models.LabelSpaceOut)


def put_label_space(name: str, label_space: models.LabelSpaceIn) -> Call[models.LabelSpacePut]:
    path = f"/label-spaces/{_segment(name)}"
    return _write("PUT", path, _reads(models.LabelSpacePut), label_space)


def delete_label_space(name: str) -> Call[None]:
    return _write("DELETE", f"/label-spaces/{_segment(name)}", _nothing)


SortedBy = Literal["updated", "valence", "fall"]
ReviewedBy = Literal["margin", "newest"]
UnknownSpeaker = Literal["own", "previous"]


def _get(
    path: str, model: type[M], query: Query | None = None, *, is_slow: bool = False
) -> Call[M]:
    return Call(
        method="GET", path=path, read=_reads(model), query=_query(query or {}), is_slow=is_slow
    )


def _write(
    method: str,
    path: str,
    read: Callable[[bytes], T],
    body: BaseModel | None = None,
    *,
    if_match: str | None = None,
    key: str | None = None,
    prefer: str | None = None,
) -> Call[T]:
    headers = {_KEY: key or uuid4().hex}
    if body is not None:
        headers["Content-Type"] = JSON
    if if_match is not None:
        headers["If-Match"] = if_match
    if prefer is not None:
        headers["Prefer"] = prefer
    content = None if body is None else _json(body)
    return Call(method=method, path=path, read=read, headers=headers, content=content)


def _reads(model: type[M]) -> Callable[[bytes], M]:
    return model.model_validate_json


def _nothing(_: bytes) -> None:
    """A result that has nothing to read."""


def _json(body: BaseModel) -> bytes:
    return body.model_dump_json(exclude_none=True).encode()


def _query(query: Query) -> dict[str, str]:
    return {name: _parameter(value) for name, value in query.items() if value is not None}


def _parameter(value: str | int | float | bool | datetime | None) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _dialogue(dialogue_id: str) -> str:
    return f"/dialogues/{_segment(dialogue_id)}"


def _segment(name: str) -> str:
    return quote(name, safe="")
