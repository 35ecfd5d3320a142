"""Many dialogues offline."""

import asyncio

import pytest

from service.conversation.dialogue import Dialogue, Utterance
from service.errors import EngineUnavailable, UtteranceTooLong
from service.offline import recognize_all
from service.recognition.pipeline import Recognizer
from tests.recognition.conftest import ScriptedEngine

# More than are under way at once; lengths differ, so they end in another order.
MANY = [
    Dialogue(f"d{n}", tuple(Utterance("a", f"Say {n}.") for _ in range(1 + 7 * n % 5)))
    for n in range(70)
]


async def test_dialogues_are_answered_in_their_order(recognizer: Recognizer) -> None:
    """Every one of them, every utterance."""
    space = recognizer.label_space("meld")

    found = [pair async for pair in recognize_all(recognizer, MANY, space, asyncio.Semaphore(4))]

    assert [dialogue for dialogue, _ in found] == MANY
    for dialogue, answers in found:
        assert not isinstance(answers, UtteranceTooLong)
        assert len(answers) == len(dialogue.utterances)


async def test_dialogue_that_cannot_be_read_does_not_concern_the_others(
    recognizer: Recognizer,
) -> None:
    """It is answered with the error, which names dialogue and utterance."""
    long = Dialogue("call-7", (Utterance("a", "Hello."), Utterance("b", "word " * 400)))
    space = recognizer.label_space("meld")

    found = [
        pair
        async for pair in recognize_all(
            recognizer, [*MANY[:3], long, *MANY[3:]], space, asyncio.Semaphore(4)
        )
    ]

    assert [dialogue.id for dialogue, _ in found[2:5]] == ["d2", "call-7", "d3"]
    failed = [answer for _, answer in found if isinstance(answer, UtteranceTooLong)]
    assert failed == [found[3][1]]
    assert str(failed[0]).startswith("dialogue 'call-7': utterances[1]: text is too long")


async def test_engine_that_is_away_fails_them_all(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """With its own error, as for a single utterance: a caller may try again."""
    engine.failure = EngineUnavailable("scripted")
    space = recognizer.label_space("meld")

    with pytest.raises(EngineUnavailable, match=r"^scripted$"):
        async for _ in recognize_all(recognizer, MANY, space, asyncio.Semaphore(1)):
            pass
