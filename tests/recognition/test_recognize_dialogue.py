"""Whole dialogues: each utterance is read as if those behind it had not been said."""

import asyncio

import pytest

from service.conversation.dialogue import Utterance, lines_of
from service.errors import EngineUnavailable
from service.priority import Priority
from service.recognition.dialogues import recognize_dialogue
from service.recognition.pipeline import Recognizer
from tests.clock import PATIENT_S
from tests.recognition.conftest import OpenRecognizer, ScriptedEngine

TALK = tuple(Utterance(f"S{n % 3}", f"Turn {n} is word{n:02}.") for n in range(24))


async def test_no_utterance_sees_what_is_said_after_it(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """Its prompt shows itself last, and before it only what came before."""
    await recognize_dialogue(
        recognizer, TALK, recognizer.label_space("meld"), asyncio.Semaphore(100)
    )

    for index, prompt in enumerate(engine.prompts):
        shown = [n for n in range(len(TALK)) if f"word{n:02}" in prompt]
        assert shown == list(range(shown[0], index + 1))
        assert len(shown) - 1 <= recognizer.history_lines


async def test_utterances_are_read_as_one_after_the_other_is(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """The same prompts in the same order, so each finds its predecessor's prefix in the cache."""
    space = recognizer.label_space("meld")
    lines = lines_of(TALK)
    for end in range(1, len(lines) + 1):
        await recognizer.recognize(lines[:end], space)
    one_by_one = engine.prompts.copy()
    engine.prompts.clear()

    await recognize_dialogue(recognizer, TALK, space, asyncio.Semaphore(100))

    assert engine.prompts == one_by_one


async def test_all_of_a_dialogue_is_read_by_one_server_and_another_may_have_another(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """Of several servers; two dialogues of one id in two batches are two."""
    space = recognizer.label_space("meld")
    for _ in range(2):
        await recognize_dialogue(recognizer, TALK, space, asyncio.Semaphore(100), "acme")

    assert len(engine.dialogues) == 2 * len(TALK)
    assert {each and each[0] for each in engine.dialogues} == {"acme"}
    first, second = (set(part) for part in (engine.dialogues[:24], engine.dialogues[24:]))
    assert len(first) == len(second) == 1
    assert first != second


async def test_answers_come_in_the_order_of_the_utterances(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """Each is what was read after its own prompt."""
    engine.certainty = lambda length: 1 / length
    recognitions = await recognize_dialogue(
        recognizer, TALK, recognizer.label_space("meld"), asyncio.Semaphore(100)
    )

    masses = [recognition.prediction.label_mass for recognition in recognitions]
    assert masses == pytest.approx([0.5 / length for length in engine.lengths])
    assert len(set(engine.lengths)) > 1


@pytest.mark.parametrize("places", [1, 3])
async def test_no_more_are_under_way_than_there_are_places(
    places: int, recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """Several dialogues share them."""
    shared = asyncio.Semaphore(places)
    space = recognizer.label_space("meld")

    await asyncio.gather(
        *(recognize_dialogue(recognizer, TALK[:6], space, shared) for _ in range(3))
    )

    assert engine.at_once == places
    assert len(engine.prompts) == 18


async def test_dialogues_give_way_to_people_who_wait(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    await recognize_dialogue(
        recognizer, TALK[:3], recognizer.label_space("meld"), asyncio.Semaphore(9)
    )

    assert set(engine.priorities) == {Priority.BATCH}


async def test_published_speaker_indexes_are_kept_for_the_published_prompt(
    open_with: OpenRecognizer, engine: ScriptedEngine
) -> None:
    """v1 takes speaker "4" for Speaker_4, v2 for the first that speaks."""
    utterances = [Utterance("4", "Hello there.")]

    for template in ("instructerc-v1", "v2"):
        recognizer = open_with(template=template)
        space = recognizer.label_space("meld")
        await recognize_dialogue(recognizer, utterances, space, asyncio.Semaphore(1))

    assert ' Speaker_4:"Hello there."' in engine.prompts[0]
    assert "\n0: Hello there." in engine.prompts[1]


async def test_empty_dialogue_has_no_emotions(recognizer: Recognizer) -> None:
    space = recognizer.label_space("meld")

    assert await recognize_dialogue(recognizer, [], space, asyncio.Semaphore(1)) == []


async def test_long_utterance_is_seen_by_those_after_it(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """By its end, a quarter of what the model reads: what was said before has room beside it."""
    utterances = [
        Utterance("a", "Hello."),
        Utterance("b", "so word " * 200),
        Utterance("a", "Well."),
    ]

    recognitions = await recognize_dialogue(
        recognizer, utterances, recognizer.label_space("meld"), asyncio.Semaphore(1)
    )

    assert [each.truncated for each in recognitions] == [False, True, False]
    assert "Hello." not in engine.prompts[1]
    assert "\n0: Hello.\n1:" in engine.prompts[2]
    assert engine.prompts[2].count("word") == 299 // 4 // 2


async def test_engine_that_is_away_fails_the_dialogue(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """With its own error, as for a single utterance."""
    engine.failure = EngineUnavailable("scripted")

    with pytest.raises(EngineUnavailable, match=r"^scripted$"):
        await recognize_dialogue(
            recognizer, TALK, recognizer.label_space("meld"), asyncio.Semaphore(9)
        )


async def test_places_are_free_again_after_a_failure(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """The next dialogue does not wait for ever."""
    places = asyncio.Semaphore(2)
    space = recognizer.label_space("meld")
    engine.failure = EngineUnavailable("scripted")
    with pytest.raises(EngineUnavailable):
        await recognize_dialogue(recognizer, TALK, space, places)
    engine.failure = None

    async with asyncio.timeout(PATIENT_S):
        assert len(await recognize_dialogue(recognizer, TALK, space, places)) == len(TALK)
