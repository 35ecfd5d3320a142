"""Files of other programs, through HTTP: read, scored and answered as `instructerc score` does."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.api.limits import BROKEN_LINES
from service.api.schemas.transcripts import MOST_UNREAD, TranscriptOut
from service.dialogue_files import dialogue_to_json, read_dialogues
from service.settings import Limits
from tests.api.conftest import documented

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

FILES = Path(__file__).parents[2] / "transcripts" / "files"
VTT = """WEBVTT

1
00:01.000 --> 00:02.500
<v Ann>Did the parcel arrive?

2
00:03.000 --> 00:04.000
<v Bo>It was empty.
"""
SRT = """1
00:00:01,000 --> 00:00:02,500
Ann: Did the parcel arrive?

2
00:00:03,000 --> 00:00:04,000
Bo: It was empty.
"""
TABLE = "call,speaker,text\nz,Ann,Did the parcel arrive?\nz,Bo,It was empty.\na,Ann,Oh no.\n"
WORDS = ["Did the parcel arrive?", "It was empty."]


async def send(
    service: "Service",
    content: str | bytes,
    content_type: str = "application/octet-stream",
    accept: str | None = None,
    headers: dict[str, str] | None = None,
    **query: Any,
) -> httpx.Response:
    given = {"Content-Type": content_type, **(headers or {})}
    if accept is not None:
        given["Accept"] = accept
    return await service.client.post("/transcripts", content=content, headers=given, params=query)


async def scored(service: "Service", *sent: Any, **query: Any) -> Any:
    answer = await send(service, *sent, **query)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert documented(TranscriptOut, body) == body
    assert answer.headers["unread-lines"] == str(len(body["unread"]))
    return body


def texts(dialogue: Any) -> list[str]:
    return [utterance["text"] for utterance in dialogue["utterances"]]


@pytest.mark.parametrize(
    ("content", "content_type", "query"),
    [
        (VTT, "text/vtt", {}),
        (VTT, "application/octet-stream", {}),
        (VTT, "text/plain; charset=utf-8", {"from": "vtt"}),
        (VTT, "text/vtt", {"from": "webvtt"}),
        (VTT.encode("utf-16"), "application/octet-stream", {}),
        (SRT, "application/x-subrip", {}),
        (SRT, "text/srt", {"from": "srt"}),
    ],
)
async def test_subtitles_are_one_dialogue(
    service: "Service", content: str | bytes, content_type: str, query: Any
) -> None:
    """With times and speakers, and the id that the query gives it."""
    body = await scored(service, content, content_type, name="call.42", label_space="MELD", **query)

    (dialogue,) = body["results"]
    assert dialogue["id"] == "call.42"
    assert texts(dialogue) == WORDS
    first = dialogue["utterances"][0]
    assert (first["speaker"], first["start"], first["end"]) == ("Ann", 1.0, 2.5)
    assert first["emotion"]["label_space"] == "meld"


async def test_a_table_has_its_dialogues_in_their_order(service: "Service") -> None:
    body = await scored(service, TABLE, "text/csv")

    assert [(d["id"], texts(d)) for d in body["results"]] == [("z", WORDS), ("a", ["Oh no."])]
    assert body["unread"] == []


async def test_columns_of_a_table_can_be_named(service: "Service") -> None:
    table = "Case;From;Body;Sent\n7;Ann;We won!;12.5\n"
    query = {"speaker": "From", "text": "Body", "dialogue": "Case", "time": "Sent"}

    (dialogue,) = (await scored(service, table, "text/plain", **query))["results"]

    (utterance,) = dialogue["utterances"]
    assert (dialogue["id"], utterance["speaker"], utterance["start"]) == ("7", "Ann", 12.5)


@pytest.mark.parametrize(
    "name",
    ["assemblyai/speaker-labels", "contact-lens/call", "deepgram/utterances", "messages/chat"],
)
async def test_documents_of_other_programs_are_read(
    service: "Service", tmp_path: Path, name: str
) -> None:
    """As the offline command reads them."""
    file = FILES / f"{name}.json"
    (expected,) = read_dialogues(file)

    (dialogue,) = (await scored(service, file.read_bytes(), "application/json", name=file.stem))[
        "results"
    ]

    fields = [utterance.keys() for utterance in dialogue_to_json(expected)["utterances"]]
    said = [
        {key: row[key] for key in keys}
        for keys, row in zip(fields, dialogue["utterances"], strict=True)
    ]
    assert {"id": dialogue["id"], "utterances": said} == dialogue_to_json(expected)


async def test_segments_are_joined_where_asked(service: "Service") -> None:
    content = VTT.replace("<v Bo>", "")

    (own,) = (await scored(service, content, "text/vtt"))["results"]
    (previous,) = (await scored(service, content, "text/vtt", unknown_speaker="previous"))[
        "results"
    ]
    same = VTT.replace("Bo", "Ann")
    (joined,) = (await scored(service, same, "text/vtt", join_within=0.5))["results"]
    (apart,) = (await scored(service, same, "text/vtt", join_within=0.4))["results"]

    assert [u["speaker"] for u in own["utterances"]] == ["Ann", "unknown"]
    assert texts(previous) == texts(joined) == [" ".join(WORDS)]
    assert texts(apart) == WORDS


async def test_a_transcript_is_answered_as_its_turns_would_be(service: "Service") -> None:
    """The model is asked with the same prompts."""
    for who, text in zip(("Ann", "Bo"), WORDS, strict=True):
        await service.say("call-42", who, text, label_space="meld")
    one_by_one = set(service.engine.prompts)
    service.engine.prompts.clear()

    (dialogue,) = (await scored(service, VTT, "text/vtt", label_space="meld"))["results"]

    assert set(service.engine.prompts) == one_by_one
    keys = ("emotion", "model_alone", "demonstrations", "model", "degraded", "truncated")
    timeline = (await service.timeline("call-42"))["utterances"]
    assert [{key: row[key] for key in keys} for row in dialogue["utterances"]] == [
        {key: row[key] for key in keys} for row in timeline
    ]


BROKEN = TABLE + "a,Ann\nb,Cy,\x1b\nb,Cy,At last.\n"


async def test_a_line_that_cannot_be_read_is_named_and_the_others_are_scored(
    service: "Service",
) -> None:
    """With its number: in JSON, in NDJSON as the offline command has it; else they are counted."""
    body = await scored(service, BROKEN, "text/csv")
    assert [each["line"] for each in body["unread"]] == [5, 6]
    assert "has 2 columns" in body["unread"][0]["detail"]
    assert "text must not" in body["unread"][1]["detail"]
    assert [(d["id"], texts(d)) for d in body["results"]][2] == ("b", ["At last."])

    lines = await send(service, BROKEN, "text/csv", "application/x-ndjson")
    parsed = [json.loads(line) for line in lines.text.splitlines()]
    assert [each for each in parsed if "error" not in each] == body["results"]
    errors = [each["error"] for each in parsed if "error" in each]
    assert errors == [f"line {each['line']}: {each['detail']}" for each in body["unread"]]
    for accept in ("application/x-ndjson", "text/csv"):
        answer = await send(service, BROKEN, "text/csv", accept)
        assert answer.headers["unread-lines"] == "2"


async def test_only_the_first_unread_lines_are_described(service: "Service") -> None:
    content = TABLE + "a,Ann\n" * (MOST_UNREAD + 5)

    answer = await send(service, content, "text/csv")

    assert len(answer.json()["unread"]) == MOST_UNREAD
    assert answer.headers["unread-lines"] == str(MOST_UNREAD + 5)


async def test_a_file_of_broken_lines_is_refused(service: "Service", problem: Any) -> None:
    """It can hardly be meant; the first line says what is wrong."""
    answer = await send(service, TABLE + "a,Ann\n" * (BROKEN_LINES + 1), "text/csv")

    assert problem(answer) == (422, "invalid-request")
    first = (
        f"more than {BROKEN_LINES} lines cannot be read, the first of them line 5: has 2 columns"
    )
    assert first in answer.json()["detail"]


async def test_scores_come_back_as_a_table(service: "Service") -> None:
    answer = await send(service, TABLE, "text/csv", "text/csv", label_space="meld")

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [(row["dialogue"], row["index"], row["text"]) for row in rows] == [
        ("z", "0", WORDS[0]),
        ("z", "1", WORDS[1]),
        ("a", "0", "Oh no."),
    ]
    (first, *_) = (await scored(service, TABLE, "text/csv", label_space="meld"))["results"]
    emotion = first["utterances"][0]["emotion"]
    assert rows[0]["emotion"] == emotion["label"]
    assert float(rows[0]["p_joy"]) == emotion["probabilities"]["joy"]


async def test_scores_come_back_as_subtitles(service: "Service") -> None:
    answer = await send(service, VTT, "text/vtt", "text/vtt", label_space="meld")

    assert answer.headers["content-type"] == "text/vtt; charset=utf-8"
    (dialogue,) = (await scored(service, VTT, "text/vtt", label_space="meld"))["results"]
    label = dialogue["utterances"][0]["emotion"]["label"]
    assert answer.text.startswith("WEBVTT\n\n1\n00:00:01.000 --> 00:00:02.500\n")
    assert f"<v Ann><c.{label}>Did the parcel arrive?</c></v>" in answer.text


@pytest.mark.parametrize("content", [TABLE, TABLE.replace("z,", "a,")])
async def test_subtitles_hold_one_dialogue_with_times(
    service: "Service", problem: Any, content: str
) -> None:
    """Nothing is scored for a response that cannot be written."""
    answer = await send(service, content, "text/csv", "text/vtt")

    assert problem(answer) == (422, "invalid-request")
    assert "application/json" in answer.json()["detail"]
    assert service.engine.prompts == []


@pytest.mark.parametrize(
    ("content", "content_type", "query", "detail"),
    [
        ("1,2\n3,4\n", "text/csv", {}, "line 1: no column of texts"),
        (TABLE, "text/csv", {"text": "Body"}, "no column 'Body'"),
        ("Hi.", "text/vtt", {"from": "vtt"}, 'line 1: a WebVTT file begins with "WEBVTT"'),
        ("Hi.", "text/plain", {}, "line 1:"),
        ("", "text/plain", {}, "has no dialogue"),
        ("speaker,text\n", "text/csv", {}, "has no dialogue"),
        ("[1, ", "application/json", {}, "line 1:"),
        ('{"id": "a"}', "application/json", {}, "utterances is missing"),
        ('{"id": "a", "utterances": [{"text": 1}]}', "application/x-ndjson", {}, "speaker"),
        (b"\xff\xfeH", "text/plain", {}, "not UTF-16"),
        (gzip.compress(VTT.encode()), "text/vtt", {}, "`Content-Encoding: gzip`"),
        (VTT, "text/vtt", {"from": "word"}, "from"),
        (VTT, "text/vtt", {"join_within": 61}, "join_within"),
        (VTT, "text/vtt", {"join_within": "nan"}, "join_within"),
        (VTT, "text/vtt", {"name": "a/b"}, "name"),
        (VTT, "text/vtt", {"speakers": "x"}, "speakers"),
    ],
)
async def test_a_file_that_cannot_be_read_is_refused(
    service: "Service", problem: Any, content: Any, content_type: str, query: Any, detail: str
) -> None:
    """With the line and the remedy in terms of the call."""
    answer = await send(service, content, content_type, **query)

    assert problem(answer) == (422, "invalid-request")
    assert detail in answer.json()["detail"]
    assert "--" not in answer.json()["detail"]


async def test_a_file_may_be_compressed_on_the_way(service: "Service") -> None:
    coded = {"Content-Encoding": "gzip"}

    answer = await send(service, gzip.compress(VTT.encode()), "text/vtt", headers=coded)

    assert texts(answer.json()["results"][0]) == WORDS


@pytest.mark.parametrize(
    ("content_type", "accept", "expected"),
    [
        ("application/pdf", None, (415, "unsupported-media-type")),
        ("", None, (415, "unsupported-media-type")),
        ("text/csv; charset=latin-1", None, (415, "unsupported-media-type")),
        ("text/vtt", "image/png", (406, "not-acceptable")),
    ],
)
async def test_other_media_types_are_refused(
    service: "Service", problem: Any, content_type: str, accept: str | None, expected: Any
) -> None:
    assert problem(await send(service, VTT, content_type, accept)) == expected


@pytest.mark.parametrize(
    ("limits", "detail"),
    [
        (Limits(batch_dialogues=1), "has more than 1 dialogues"),
        (Limits(batch_utterances=2), "has 3 utterances, at most 2"),
        (Limits(text_characters=10), "utterance 0: text has 22 characters, at most 10"),
        (Limits(speaker_characters=2), "utterance 0: speaker has 3 characters, at most 2"),
    ],
)
async def test_a_file_has_the_limits_of_a_batch(
    start_service: "StartService", tmp_path: Path, problem: Any, limits: Limits, detail: str
) -> None:
    async with start_service(tmp_path, limits) as service:
        answer = await send(service, TABLE, "text/csv")

        assert problem(answer) == (422, "invalid-request")
        assert detail in answer.json()["detail"]
        assert service.engine.prompts == []


async def test_a_file_has_so_many_bytes(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """Also where it is NDJSON, which is read as a whole here."""
    async with start_service(tmp_path, Limits(body_bytes=100)) as service:
        for content_type in ("text/csv", "application/x-ndjson"):
            answer = await send(service, "x" * 101, content_type)
            assert problem(answer) == (413, "body-too-large")


async def test_an_engine_that_is_away_fails_the_whole_file(
    service: "Service", problem: Any
) -> None:
    service.engine.goes_away()

    for accept in ("application/json", "application/x-ndjson", "text/csv", "text/vtt"):
        answer = await send(service, VTT, "text/vtt", accept)
        assert problem(answer) == (503, "engine-unavailable")


async def test_an_unknown_label_space_is_refused(service: "Service", problem: Any) -> None:
    answer = await send(service, VTT, "text/vtt", label_space="mled")

    assert problem(answer) == (422, "unsupported-label-space")


async def test_a_key_is_refused(service: "Service", problem: Any) -> None:
    """No response is stored under it."""
    answer = await send(service, VTT, "text/vtt", headers={"Idempotency-Key": "k-1"})

    assert problem(answer) == (422, "invalid-request")
    assert "Idempotency-Key: is not accepted here" in answer.json()["detail"]


async def test_nothing_is_stored(service: "Service") -> None:
    await scored(service, VTT, "text/vtt", name="call-42")

    assert (await service.client.get("/dialogues/call-42")).status_code == 404
