"""Whole dialogues at once, through HTTP."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.api.schemas.batch import BatchOut
from service.conversation.dialogue import Line
from service.conversation.labels import LabelSpace
from service.conversation.prompts import DialoguellmV1
from service.conversation.prompts.tokens import tokenize
from service.decoding.bundle import Bundle, Window
from service.decoding.tokenizer import Tokenizer
from service.settings import Limits
from tests.api.conftest import documented

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

# Who says what, and what is seen meanwhile.
Lines = Sequence[tuple[str, str] | tuple[str, str, str]]

PARCEL = [("Ann", "Did the parcel arrive?"), ("Bo", "It was empty."), ("Ann", "Oh no.")]
LONG = [("Ann", "? " * 900)]


async def score(
    service: "Service", dialogues: dict[str, Lines] | list[tuple[str, Lines]], **more: Any
) -> httpx.Response:
    pairs = dialogues.items() if isinstance(dialogues, dict) else dialogues
    body = {
        "dialogues": [
            {
                "id": identifier,
                "utterances": [
                    dict(zip(("speaker", "text", "description"), utterance, strict=False))
                    for utterance in lines
                ],
            }
            for identifier, lines in pairs
        ]
    }
    return await service.client.post("/batch", json=body | more)


async def test_every_utterance_of_every_dialogue_is_answered_in_the_order_asked(
    service: "Service",
) -> None:
    """Results stand in the order of the dialogues, utterances in the order they were spoken."""
    answer = await score(service, {"z": PARCEL, "a": PARCEL[:1]}, label_space="MELD")

    assert answer.status_code == 200
    body = answer.json()
    assert documented(BatchOut, body) == body
    assert [result["id"] for result in body["results"]] == ["z", "a"]
    assert [u["index"] for u in body["results"][0]["utterances"]] == [0, 1, 2]
    assert {u["emotion"]["label_space"] for u in body["results"][0]["utterances"]} == {"meld"}


async def test_a_batch_is_answered_as_its_turns_would_be(service: "Service") -> None:
    """One by one or all at once, the model is asked with the same prompts."""
    for who, text in PARCEL:
        await service.say("call-42", who, text)
    one_by_one = set(service.engine.prompts)
    service.engine.prompts.clear()

    batch = await score(service, {"call-42": PARCEL})

    assert set(service.engine.prompts) == one_by_one
    keys = ("index", "emotion", "model_alone", "demonstrations", "model", "degraded", "truncated")
    said_of_each = [
        {key: entry[key] for key in keys}
        for entry in (await service.timeline("call-42"))["utterances"]
    ]
    assert batch.json()["results"][0]["utterances"] == said_of_each


async def test_what_is_seen_is_read_in_a_batch_as_in_turns(
    start_service: "StartService",
    tmp_path: Path,
    bundle: Bundle,
    label_spaces: Mapping[str, LabelSpace],
    tokenizer: Tokenizer,
) -> None:
    """With each utterance its own description, where the template shows one."""
    sighted = bundle.model_copy(
        update={
            "template": "dialoguellm-v1",
            "tasks": ("main",),
            "window": Window(lowest=2, highest=2),
        }
    )
    lines: Lines = [("Ann", "Look!", "A kite."), ("Bo", "Where?"), ("Ann", "There.", "It dips.")]
    async with start_service(tmp_path, Limits(), sighted) as service:
        for who, text, *seen in lines:
            turn = dict(zip(("description",), seen, strict=False))
            await service.say("call-42", who, text, label_space="meld", **turn)
        one_by_one = list(service.engine.prompts)
        service.engine.prompts.clear()
        await score(service, {"call-42": lines}, label_space="meld")
        timeline = await service.timeline("call-42")

    assert set(service.engine.prompts) == set(one_by_one)
    expected = DialoguellmV1().main(
        label_spaces["meld"],
        [Line(0, "Look!"), Line(1, "Where?")],
        Line(0, "There.", "It dips."),
    )
    segments = tokenize(expected, tokenizer.encode, tokenizer.begin)
    assert one_by_one[-1] == tuple(token for segment in segments for token in segment)
    assert [u["description"] for u in timeline["utterances"]] == ["A kite.", None, "It dips."]


async def test_no_utterance_is_read_in_the_light_of_what_comes_after_it(
    service: "Service", tokenizer: Tokenizer
) -> None:
    """The last line is in one prompt only, its own."""
    await score(service, {"a": PARCEL})

    last = tuple(tokenizer.encode("Oh no."))
    holding = [
        prompt
        for prompt in service.engine.prompts
        if any(prompt[n : n + len(last)] == last for n in range(len(prompt)))
    ]
    assert (len(service.engine.prompts), len(holding)) == (3, 1)


async def test_nothing_of_a_batch_is_kept(service: "Service", problem: Any) -> None:
    """A batch scores; it creates no dialogue."""
    await score(service, {"call-42": PARCEL})

    answer = await service.client.get("/dialogues/call-42")

    assert problem(answer) == (404, "dialogue-not-found")


async def test_an_utterance_longer_than_the_model_reads_concerns_no_other(
    service: "Service",
) -> None:
    """It is answered by its end, and says so, as JSON, as lines and as a job."""
    batch: dict[str, Lines] = {
        "a": PARCEL,
        "b": [*PARCEL, *LONG, *PARCEL],
        "c": PARCEL,
    }

    content = b"".join(
        json.dumps(
            {"id": name, "utterances": [{"speaker": s, "text": t} for s, t, *_ in utterances]}
        ).encode()
        + b"\n"
        for name, utterances in batch.items()
    )
    headers = {"Content-Type": "application/x-ndjson"}
    asynchronous = headers | {"Prefer": "respond-async"}

    whole = await score(service, batch)
    lines = await service.client.post("/batch", content=content, headers=headers)
    job = await service.client.post("/batch", content=content, headers=asynchronous)
    await service.work()
    of_job = await service.client.get(job.json()["results"])

    short = [False] * 3
    for results in (
        whole.json()["results"],
        map(json.loads, lines.text.splitlines()),
        map(json.loads, of_job.text.splitlines()),
    ):
        truncated_by_id = {
            each["id"]: [u["truncated"] for u in each["utterances"]] for each in results
        }
        assert truncated_by_id == {"a": short, "b": [*short, True, *short], "c": short}


async def test_without_the_engine_the_request_fails_as_a_whole(
    service: "Service", problem: Any
) -> None:
    """That nobody can answer is no fault of any dialogue."""
    service.engine.goes_away()

    answer = await score(service, {"a": PARCEL, "b": LONG, "c": PARCEL})

    assert problem(answer) == (503, "engine-unavailable")


async def test_without_demonstrations_a_batch_goes_on_and_says_so(service: "Service") -> None:
    """As a turn does."""
    await service.lose_demonstrations()

    answer = await score(service, {"a": PARCEL})

    utterances = answer.json()["results"][0]["utterances"]
    assert [utterance["degraded"] for utterance in utterances] == [["demonstrations"]] * 3


async def test_an_empty_dialogue_has_an_empty_answer(service: "Service") -> None:
    """So has an empty batch; the engine is not asked."""
    answer = await score(service, {"a": [], "b": []})

    assert answer.json() == {
        "results": [{"id": "a", "utterances": []}, {"id": "b", "utterances": []}]
    }
    assert (await score(service, {})).json() == {"results": []}
    assert service.engine.prompts == []


async def test_two_dialogues_with_one_id_are_refused(service: "Service", problem: Any) -> None:
    """Their results could not be told apart."""
    answer = await score(service, [("a", PARCEL), ("b", PARCEL), ("a", [])])

    assert problem(answer) == (422, "invalid-request")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/dialogues/2/id"]


@pytest.mark.parametrize("label_space", ["iemocap", "nonsense"])
async def test_a_batch_in_a_label_space_that_the_bundle_does_not_know_is_refused(
    service: "Service", problem: Any, label_space: str
) -> None:
    """As a turn is."""
    answer = await score(service, {"a": PARCEL}, label_space=label_space)

    assert problem(answer) == (422, "unsupported-label-space")


@pytest.mark.parametrize(
    ("dialogues", "pointer"),
    [
        ({"a": [], "b": [], "c": []}, "/dialogues"),
        ({"a": PARCEL, "b": PARCEL[:2]}, "/dialogues"),
        ({"a": [], "b": [("Ann", "Hello"), ("Bo", "f" * 26)]}, "/dialogues/1/utterances/1/text"),
        ({"a": [], "b": [("B" * 11, "Hello")]}, "/dialogues/1/utterances/0/speaker"),
        ({"a": [("Bo", "Hello", "f" * 26)]}, "/dialogues/0/utterances/0/description"),
    ],
    ids=["dialogues", "utterances in all", "text", "speaker", "description"],
)
async def test_a_batch_beyond_a_limit_is_refused_and_told_where(
    start_service: "StartService",
    tmp_path: Path,
    problem: Any,
    dialogues: dict[str, Lines],
    pointer: str,
) -> None:
    """Up to a limit is fine, one more is not."""
    limits = Limits(
        text_characters=25, speaker_characters=10, batch_dialogues=2, batch_utterances=4
    )
    async with start_service(tmp_path, limits) as service:
        within = await score(service, {"a": [("Bo" * 5, "f" * 25, "f" * 25)], "b": PARCEL})
        beyond = await score(service, dialogues)

        assert within.status_code == 200
        assert problem(beyond) == (422, "invalid-request")
        assert [fault["pointer"] for fault in beyond.json()["errors"]] == [pointer]
