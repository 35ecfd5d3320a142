"""Many dialogues offline."""

import asyncio

import pytest

from service.conversation.dialogue import Dialogue, Utterance
from service.errors import EngineUnavailable
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

    pairs = [pair async for pair in recognize_all(recognizer, MANY, space, asyncio.Semaphore(4))]

    assert [dialogue for dialogue, _ in pairs] == MANY
    for dialogue, answers in pairs:
        assert len(answers) == len(dialogue.utterances)


async def test_utterance_longer_than_the_model_reads_concerns_no_other(
    recognizer: Recognizer,
) -> None:
    """It is answered by its end, and says so."""
    long = Dialogue(
        "call-7", (Utterance("a", "Hello."), Utterance("b", "word " * 400), Utterance("a", "Yes."))
    )
    space = recognizer.label_space("meld")

    pairs = [
        pair
        async for pair in recognize_all(
            recognizer, [*MANY[:3], long, *MANY[3:]], space, asyncio.Semaphore(4)
        )
    ]

    assert [dialogue.id for dialogue, _ in pairs[2:5]] == ["d2", "call-7", "d3"]
    truncated = {d.id: [answer.truncated for answer in read] for d, read in pairs}
    assert truncated.pop("call-7") == [False, True, False]
    assert not any(map(any, truncated.values()))


async def test_engine_that_is_away_fails_them_all(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """With its own error, as for a single utterance: a caller may try again."""
    engine.failure = EngineUnavailable("scripted")
    space = recognizer.label_space("meld")

    with pytest.raises(EngineUnavailable, match=r"^scripted$"):
        async for _ in recognize_all(recognizer, MANY, space, asyncio.Semaphore(1)):
            pass
