"""The prompts that the rows compare are those of the service, and of the published code."""

from pathlib import Path

import pytest

from service.conversation.dialogue import Dialogue, Line, Utterance
from service.decoding.tokenizer import load_tokenizer
from tests.bench.prompts import record_prompts
from tests.bench.published import longest_answer, published_prompts
from tests.bench.rows.generate import label_in
from tests.bench.rows.observed import results_of
from tests.bench.setup import Setup, read_setup, write_setup
from tests.bench.turns import Read, in_waves, read_turns, write_turns
from tests.e2e.conftest import BUNDLE


def turn(*prompt: int) -> tuple[Read, ...]:
    return (Read(prompt, (7, 8)),)


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(bundle=str(BUNDLE), folder=str(tmp_path))


def test_in_waves_a_turn_comes_when_its_predecessor_has_been() -> None:
    """The first of every dialogue, then every second one."""
    dialogues = ((turn(1), turn(1, 2)), (turn(3),), (turn(4), turn(4, 5), turn(4, 5, 6)))

    assert in_waves(dialogues) == [
        *(turn(1), turn(3), turn(4)),
        *(turn(1, 2), turn(4, 5)),
        turn(4, 5, 6),
    ]


def test_recorded_prompts_are_read_again_as_they_were(tmp_path: Path) -> None:
    """By the number of their pass."""
    recorded = {-1: ((turn(1), turn(1, 2)),), 0: ((turn(3),), (turn(4),))}

    write_turns(recorded, tmp_path / "turns.json")

    assert read_turns(tmp_path / "turns.json") == recorded


async def test_what_is_recorded_is_what_the_template_says(setup: Setup, tmp_path: Path) -> None:
    """Each utterance in the light of those before it; the tokens are those of its segments."""
    bundle, space = setup.load_bundle()
    tokenizer = load_tokenizer(BUNDLE)
    dialogue = Dialogue("d", (Utterance("Ann", "We won!"), Utterance("Bo", "No way.")))

    (turns,) = await record_prompts(BUNDLE, [((dialogue,), space)], tmp_path, demonstrations=False)

    lines = [Line(0, "We won!"), Line(1, "No way.")]
    for target, ((read,),) in enumerate(zip(turns[0], strict=True)):
        prompt = bundle.prompt_template.main(space, lines[:target], lines[target])
        tokens = [token for segment in prompt.segments for token in tokenizer.encode(segment)]
        assert read.prompt == (*tokenizer.begin, *tokens)
        assert len(read.candidates) == len(space.names)


def test_published_prompts_ask_for_each_utterance(setup: Setup) -> None:
    """With the lines before it."""
    utterances = [u for dialogue in setup.passes(0) for u in dialogue.utterances]

    prompts = published_prompts(setup, [0])

    assert len(prompts) == len(utterances)
    for prompt, utterance in zip(prompts, utterances, strict=True):
        assert prompt.startswith("Now you are expert")
        assert f'"{utterance.text}" from <' not in prompt
        assert f'"{utterance.text}"> from <' in prompt


def test_the_longest_answer_is_a_verbalizer_and_its_end(setup: Setup) -> None:
    """MELD's "joyful" takes two tokens."""
    _, space = setup.load_bundle()

    assert longest_answer(BUNDLE, space) == 3


@pytest.mark.parametrize(
    ("answer", "label"),
    [("joyful", "joyful"), (" Sad.", "Sad"), ("so angry, so sad", "angry"), ("happy", None)],
)
def test_a_label_is_found_in_what_was_generated(
    setup: Setup, answer: str, label: str | None
) -> None:
    """The first verbalizer, without regard to case."""
    _, space = setup.load_bundle()

    assert label_in(answer, space) == label


def test_the_results_of_a_batch_are_its_utterances_and_its_refused_dialogues() -> None:
    """And of an utterance's answer, itself."""
    batch = b"""{"results": [
        {"id": "a", "utterances": [{"index": 0, "degraded": []}, {"index": 1, "degraded": []}]},
        {"id": "b", "error": {"status": 422}}
    ]}"""

    assert [sorted(result) for result in results_of(batch)] == [
        ["degraded", "index"],
        ["degraded", "index"],
        ["error", "id"],
    ]
    assert results_of(b'{"index": 3, "degraded": []}') == [{"index": 3, "degraded": []}]


def test_a_setup_reaches_the_processes_of_a_run(setup: Setup, tmp_path: Path) -> None:
    """Through a file in the run's folder."""
    write_setup(setup)

    assert read_setup(tmp_path) == setup
