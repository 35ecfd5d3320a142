"""What a speaker's next, unspoken turn may carry, through HTTP."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.api.schemas.dialogues import ForecastOut
from service.conversation.dialogue import Line
from service.conversation.labels import LabelSpace
from service.conversation.prompts.default_v2 import V2
from service.conversation.prompts.tokens import tokenize
from service.decoding.bundle import Bundle
from service.decoding.tokenizer import Tokenizer
from service.settings import Limits
from tests.api.conftest import documented

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

JOY = 4  # its place among MELD's labels


async def talk(service: "Service") -> None:
    """Ann and Bo, two turns."""
    await service.say("call-42", "Ann", "Did the parcel arrive?")
    await service.say("call-42", "Bo", "It was empty.")


async def test_a_forecast_answers_the_emotion_of_the_turn_to_come(service: "Service") -> None:
    """Its index is the next one; no field more or less than documented."""
    await talk(service)
    service.engine.choice = JOY

    answer = await service.forecast("call-42", speaker="Ann", label_space="meld")

    assert answer.status_code == 200
    body = answer.json()
    assert documented(ForecastOut, body) == body
    assert (body["dialogue_id"], body["index"], body["speaker"]) == ("call-42", 2, "Ann")
    assert body["emotion"]["label"] == "joy"
    assert body["emotion"]["confidence"] == pytest.approx(8 / 9)
    assert body["model"] == {"bundle": "erc-test", "version": "1", "template": "v2"}
    assert body["degraded"] == []


async def test_an_emotion_has_the_shape_that_it_has_in_an_utterances_answer(
    service: "Service",
) -> None:
    """The same engine that says the same gives the same emotion."""
    response = await service.say("call-42", "Ann", "We won!", label_space="emorynlp")

    answer = await service.forecast("call-42", speaker="Ann", label_space="emorynlp")

    assert answer.json()["emotion"] == response.json()["emotion"]
    assert list(answer.json()["emotion"]["probabilities"]) == list(
        response.json()["emotion"]["probabilities"]
    )


@pytest.mark.parametrize(("speaker", "number"), [("Ann", 0), ("Bo", 1), ("Cy", 2)])
async def test_the_model_is_shown_the_dialogue_and_who_speaks_next(
    service: "Service",
    tokenizer: Tokenizer,
    label_spaces: Mapping[str, LabelSpace],
    speaker: str,
    number: int,
) -> None:
    """Somebody new to the dialogue has the next number; there is no demonstration."""
    await service.add_demonstration(label_space="meld", label="joy", text="It was full!")
    await talk(service)

    await service.forecast("call-42", speaker=speaker, label_space="meld")

    history = [Line(0, "Did the parcel arrive?"), Line(1, "It was empty.")]
    expected = V2().prediction(label_spaces["meld"], history, Line(number, ""))
    segments = tokenize(expected, tokenizer.encode, tokenizer.begin)
    assert service.engine.prompts[-1] == tuple(token for part in segments for token in part)


async def test_a_forecast_leaves_nothing_behind(service: "Service") -> None:
    """Neither an utterance nor a speaker: the next turn is what it would have been."""
    await talk(service)
    before = await service.timeline("call-42")

    await service.forecast("call-42", speaker="Cy")

    assert await service.timeline("call-42") == before
    answer = await service.say("call-42", "Dan", "Oh no.")
    assert answer.json()["index"] == 2
    prompt = service.engine.prompts[-1]
    await service.forecast("call-42", speaker="Cy")
    assert (await service.client.delete("/dialogues/call-42")).status_code == 204
    await talk(service)
    await service.say("call-42", "Dan", "Oh no.")
    assert service.engine.prompts[-1] == prompt


async def test_a_forecast_goes_by_the_last_lines_of_a_long_dialogue(service: "Service") -> None:
    """The window moves as it does for the turn itself: all before the question is its prefix."""
    for n in range(12):
        await service.say("call-42", f"speaker {n % 3}", f"This is line {n}.")
        await service.forecast("call-42", speaker="speaker 0")

    await service.say("call-42", "speaker 0", "The last line.")

    *_, before, turn = service.engine.prompts
    question = next(n for n, (a, b) in enumerate(zip(before, turn, strict=False)) if a != b)
    assert len(before) - question < 24


@pytest.mark.parametrize(
    ("query", "answered"),
    [({}, "unified"), ({"label_space": "meld"}, "meld"), ({"label_space": "EmoryNLP"}, "emorynlp")],
)
async def test_a_label_space_is_unified_unless_asked_for_in_any_case(
    service: "Service", query: dict[str, str], answered: str
) -> None:
    """Whatever the turns so far were answered in."""
    await talk(service)

    answer = await service.forecast("call-42", speaker="Ann", **query)

    assert answer.json()["emotion"]["label_space"] == answered


async def test_a_forecast_says_where_its_time_went(service: "Service") -> None:
    """There is no text to encode, and nothing to retrieve."""
    await talk(service)

    answer = await service.forecast("call-42", speaker="Ann")

    timing = dict(part.split(";dur=") for part in answer.headers["Server-Timing"].split(", "))
    assert set(timing) == {"admit", "store", "render", "queue", "decode"}
    assert all(float(milliseconds) >= 0 for milliseconds in timing.values())


async def test_a_forecast_does_not_need_demonstrations(service: "Service") -> None:
    """It shows none, so it is not degraded where they are lost."""
    await talk(service)
    await service.lose_demonstrations()

    answer = await service.forecast("call-42", speaker="Ann")

    assert (answer.status_code, answer.json()["degraded"]) == (200, [])


async def test_a_bundle_that_was_not_trained_to_forecast_refuses(
    start_service: "StartService", bundle: Bundle, tmp_path: Path, problem: Any
) -> None:
    """It would answer something; the problem names the bundle. Utterances it does answer."""
    main_only = bundle.model_copy(update={"tasks": ("main",)})
    async with start_service(tmp_path, Limits(), main_only) as service:
        await talk(service)

        answer = await service.forecast("call-42", speaker="Ann")

        assert problem(answer) == (422, "forecast-not-supported")
        assert "bundle erc-test was not trained to forecast" in answer.json()["detail"]
        assert len(service.engine.prompts) == 2


async def test_a_dialogue_that_is_not_there_has_no_forecast(
    service: "Service", problem: Any
) -> None:
    """Unknown, or erased: there is no history to go by."""
    await talk(service)
    await service.client.delete("/dialogues/call-42")

    for dialogue_id in ("nobody", "call-42"):
        answer = await service.forecast(dialogue_id, speaker="Ann")
        assert problem(answer) == (404, "dialogue-not-found")


@pytest.mark.parametrize("label_space", ["iemocap", "nonsense"])
async def test_a_label_space_the_bundle_does_not_know_is_refused(
    service: "Service", problem: Any, label_space: str
) -> None:
    """As for an utterance."""
    await talk(service)

    answer = await service.forecast("call-42", speaker="Ann", label_space=label_space)

    assert problem(answer) == (422, "unsupported-label-space")
    assert "meld, emorynlp, unified" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({}, "speaker"),
        ({"speaker": ""}, "speaker"),
        ({"speaker": " \u3000"}, "speaker"),
        ({"speaker": "A" * 101}, "speaker"),
        ({"speaker": "A\nB"}, "speaker"),
        ({"speaker": "A\0B"}, "speaker"),
        ({"speaker": "Ann", "label_space": ""}, "label_space"),
        ({"speaker": "Ann", "label_space": "m" * 101}, "label_space"),
        ({"speaker": "Ann", "labelspace": "meld"}, "labelspace"),
    ],
)
async def test_a_question_that_is_not_as_it_should_be_is_refused(
    service: "Service", problem: Any, query: dict[str, str], parameter: str
) -> None:
    """The answer names the parameter."""
    await talk(service)

    answer = await service.forecast("call-42", **query)

    assert problem(answer) == (422, "invalid-request")
    assert [fault["parameter"] for fault in answer.json()["errors"]] == [parameter]


@pytest.mark.parametrize("speaker", ["Zoë 🎤", "a&b=c", "A" * 100, "speaker/2 + 1", "\ufeffAnn"])
async def test_a_speaker_is_any_name_on_one_line(service: "Service", speaker: str) -> None:
    """What a client percent-encodes is the name that utterances are said by."""
    await service.say("call-42", "Bo", "Hello?")
    await service.say("call-42", speaker, "Yes?")

    answer = await service.forecast("call-42", speaker=speaker)

    assert (answer.status_code, answer.json()["speaker"]) == (200, speaker)
    prompt = service.engine.prompts[-1]
    await service.forecast("call-42", speaker="Bo")
    differing = [
        n
        for n, pair in enumerate(zip(prompt, service.engine.prompts[-1], strict=True))
        if pair[0] != pair[1]
    ]
    assert len(differing) == 1  # the speaker's number: known, so that it is not a third one


async def test_a_last_utterance_that_leaves_no_room_for_the_question_is_read_by_its_end(
    service: "Service",
) -> None:
    """The forecast says so; the next turn makes room."""
    await service.say("call-42", "Ann", "? " * 480)

    cut = await service.forecast("call-42", speaker="Ann")
    await service.say("call-42", "Bo", "What?")
    whole = await service.forecast("call-42", speaker="Ann")

    assert (cut.status_code, cut.json()["truncated"]) == (200, True)
    assert (whole.status_code, whole.json()["truncated"]) == (200, False)


@pytest.mark.parametrize("part", ["engine", "database"])
async def test_without_engine_or_database_there_is_no_forecast(
    service: "Service", problem: Any, part: str
) -> None:
    """Though the dialogue's end may still be in memory."""
    await talk(service)
    if part == "engine":
        service.engine.goes_away()
    else:
        await service.lose_database()

    answer = await service.forecast("call-42", speaker="Ann")

    assert problem(answer) == (503, f"{part}-unavailable")
