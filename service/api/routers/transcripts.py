"""The route of transcripts: a file as other programs write it, scored as a batch; not stored."""

import asyncio
import io
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.access.keys import Scope
from service.admission.deadline import earn
from service.api.batches.results import recognized
from service.api.batches.transcripts import Transcript, Unread, read_transcript
from service.api.bodies.json_bodies import json_response
from service.api.bodies.ndjson import Emit, LineStream
from service.api.idempotency import UntoldKey, refuse_key
from service.api.policies import policy
from service.api.problems.answers import documented, invalid
from service.api.problems.kinds import (
    ADMISSION_PROBLEMS,
    BODY_TOO_LARGE,
    INVALID_REQUEST,
    NOT_ACCEPTABLE,
    NOT_JSON,
)
from service.api.request_headers import (
    JSON,
    LINES,
    NDJSON,
    Accept,
    accepted,
    check_charset,
    is_json,
    is_lines,
    media_type_of,
)
from service.api.response_headers import UNBUFFERED, UNREAD, carrying
from service.api.schemas.streams import TRANSCRIPT_LINE
from service.api.schemas.transcripts import (
    MOST_UNREAD,
    TranscriptOut,
    TranscriptReading,
    UnreadLine,
)
from service.api.services import CallerDep, ServicesDep, TenantDep
from service.concurrency import first_failure, in_thread
from service.conversation.dialogue import Dialogue
from service.dialogue_files import Reading, dialogue_to_json
from service.errors import (
    ClientLeft,
    DatabaseUnavailable,
    DemonstrationsUnavailable,
    EngineUnavailable,
    UnsupportedLabelSpace,
)
from service.priority import Priority
from service.scored_files import Output, OutputMismatch, check_output, writer
from service.tracing import listening
from service.transcripts.formats import Format
from service.transcripts.segments import Joining
from service.transcripts.tables import Columns

router = APIRouter(tags=["batch"])

CSV, WEBVTT = "text/csv", "text/vtt"
_OUTPUTS: Mapping[str, Output] = {CSV: Output.CSV, WEBVTT: Output.WEBVTT}

# The media types of files, besides those of JSON, with the end of such a file's name. It matters
# where the content does not tell the format.
_SUFFIXES: Mapping[str, str] = {
    CSV: ".csv",
    "text/tab-separated-values": ".tsv",
    WEBVTT: ".vtt",
    "application/x-subrip": ".srt",
    "text/srt": ".srt",
    "text/plain": ".txt",
    "application/octet-stream": ".txt",
}

_VTT_IN = "WEBVTT\n\n00:01.000 --> 00:02.500\n<v Ann>We won!\n"
_VTT_OUT = "WEBVTT\n\n1\n00:00:01.000 --> 00:00:02.500\n<v Ann><c.joyful>We won!</c></v>\n"
_TEXT = {"schema": {"type": "string"}}

_Score = Callable[[Dialogue], Coroutine[Any, Any, dict[str, Any]]]


@router.post(
    "/transcripts",
    response_model=TranscriptOut,
    responses={
        200: {
            "description": "The dialogues of the file, in its order",
            "content": {
                NDJSON: {"itemSchema": TRANSCRIPT_LINE},
                CSV: _TEXT,
                WEBVTT: {**_TEXT, "example": _VTT_OUT},
            },
            **carrying(UNREAD, *UNBUFFERED),
        },
        **documented(
            BODY_TOO_LARGE,
            NOT_JSON,
            INVALID_REQUEST,
            NOT_ACCEPTABLE,
            *ADMISSION_PROBLEMS,
            UnsupportedLabelSpace,
            EngineUnavailable,
            DemonstrationsUnavailable,
            DatabaseUnavailable,
        ),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                WEBVTT: {**_TEXT, "example": _VTT_IN},
                **{name: _TEXT for name in _SUFFIXES if name != WEBVTT},
                JSON: {"schema": {"type": ["object", "array"]}},
                NDJSON: {"itemSchema": {"type": "object"}},
            },
        }
    },
)
@policy(Scope.READ, Priority.BATCH)
async def score_transcript(
    request: Request,
    query: Annotated[TranscriptReading, Query()],
    caller: CallerDep,
    tenant: TenantDep,
    services: ServicesDep,
    accept: Accept = None,
    idempotency_key: UntoldKey = None,
) -> Response:
    """Score a file of dialogues: a table, subtitles, or a transcript of another program.

    The body is the file itself, in any format that `instructerc score` reads, and in UTF-8, UTF-16
    or UTF-32; the response is what that command writes, in the media type that `Accept` names.
    WebVTT holds one dialogue whose utterances have times. Lines that cannot be read are counted in
    `Unread-Lines` and named in JSON; the others are scored. The limits are those of a batch with a
    JSON body, and nothing is stored.
    """
    refuse_key(idempotency_key, "here")
    suffix = _suffix(request)
    media_type = accepted(accept, [JSON, *LINES, *_OUTPUTS])
    space = await services.answerer.label_space(query.label_space, tenant)
    try:
        content = await request.body()
    except ClientDisconnect:
        raise ClientLeft("the client has closed its connection") from None
    file = content, query.name, suffix, _reading(query)
    read = partial(read_transcript, *file, services.limits, caller.batch_utterances)
    transcript = await in_thread(read, services.transcript_threads)
    output = _OUTPUTS.get(media_type)
    if output is not None:
        _check_output(output, transcript)
    caller.spend_utterances(max(1, transcript.utterance_count))

    async def score_one(dialogue: Dialogue) -> dict[str, Any]:
        _, documents = await recognized(dialogue.utterances, space, tenant, services)
        scored = dialogue_to_json(dialogue)
        for row, document in zip(scored["utterances"], documents, strict=True):
            row.update(document)
        return scored

    async def produce(emit: Emit) -> None:
        with listening(services.metrics.observe_stage):
            await _emit_scored(transcript, score_one, emit)

    response: Response
    if media_type in LINES:
        response = LineStream(produce, media_type)
    else:
        lines: list[dict[str, Any]] = []

        async def collect(line: dict[str, Any]) -> None:
            lines.append(line)

        await produce(collect)
        results = [line for line in lines if "error" not in line]
        if output is None:
            response = json_response({"results": results, "unread": _described(transcript.unread)})
        else:
            response = Response(_written(results, output, space.names), media_type=media_type)
    response.headers[UNREAD] = str(len(transcript.unread))
    return response


def _described(unread: Sequence[Unread]) -> list[UnreadLine]:
    return [{"line": each.line, "detail": each.detail} for each in unread[:MOST_UNREAD]]


def _written(results: Iterable[dict[str, Any]], output: Output, labels: Sequence[str]) -> str:
    """Scored dialogues as the content of a file."""
    file = io.StringIO(newline="")
    scored_file = writer(output, file, labels)
    for result in results:
        scored_file.add(result)
    return file.getvalue()


async def _emit_scored(transcript: Transcript, score_one: _Score, emit: Emit) -> None:
    """Score dialogues concurrently and emit them in order, with an error for each unread line."""
    with first_failure():
        async with asyncio.TaskGroup() as group:
            begun = [
                part if isinstance(part, Unread) else group.create_task(score_one(part))
                for part in transcript.parts
            ]
            for each in begun:
                if isinstance(each, Unread):
                    await emit({"error": str(each)})
                    continue
                await asyncio.wait((each,))  # `await each` would hide a cancellation
                result = each.result()
                await emit(result)
                earn(len(result["utterances"]))


def _suffix(request: Request) -> str:
    """The end of the name that a file of the body's media type has.

    Raises:
        HTTPException: 415, the media type is not that of a file that can be read.
    """
    check_charset(request.headers)
    content_type = request.headers.get("content-type", "")
    if is_json(content_type) or is_lines(content_type):
        return ".json"
    media_type = media_type_of(content_type)
    if media_type not in _SUFFIXES:
        known = ", ".join((JSON, NDJSON, *_SUFFIXES))
        raise HTTPException(NOT_JSON.status, f"send the file with one of the types {known}")
    return _SUFFIXES[media_type]


def _reading(query: TranscriptReading) -> Reading:
    named = Format.WEBVTT if query.format == "vtt" else query.format
    columns = Columns(query.speaker, query.text, query.dialogue, query.time)
    return Reading(named, columns, Joining(query.unknown_speaker, query.join_within))


def _check_output(output: Output, transcript: Transcript) -> None:
    """Check that a format can hold the dialogues.

    Raises:
        RequestValidationError: it cannot.
    """
    try:
        for before, dialogue in enumerate(transcript.dialogues):
            check_output(output, dialogue, before)
    except OutputMismatch as error:
        reason = str(error).partition(";")[0]
        detail = f"{reason}; accept {JSON}, {NDJSON} or {CSV}"
        raise invalid("Accept", detail=detail, source="header") from None
