"""What a model is taught: the prompts it will be asked with, and what should follow them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from service.conversation.dialogue import (
    Demonstration,
    Dialogue,
    HistoryWindow,
    Line,
    Utterance,
)
from service.conversation.labels import LabelSpace
from service.conversation.prompts import TEMPLATES, V2, InstructercV1, PredictionTemplate
from service.decoding.engine import Reading
from service.decoding.tokenizer import Tokenizer
from service.priority import Priority
from service.recognition.dialogues import recognize_dialogue
from service.recognition.opening import open_recognizer
from tests.training.conftest import SAID, described
from training.mixture.tasks import (
    PREDICTION,
    SPEAKER,
    PromptSettings,
    check_room,
    main_task,
    prediction_task,
    speaker_task,
)
from training.recipe import RecipeError

SEP = 102
SEEN = {0: "A harbour.", 5: "She waves her arms.", 6: " "}
EXAMPLE = Demonstration("e", "meld", "anger", "My scarf!")


@pytest.fixture
def prompts(tokenizer: Tokenizer) -> PromptSettings:
    return PromptSettings(V2(), HistoryWindow(2, 3), tokenizer, 400)


@dataclass
class Listener:
    """A label engine that keeps the prompts it is asked with."""

    prompts: list[tuple[int, ...]] = field(default_factory=list)

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        self.prompts.append(tuple(prompt))
        return Reading((-1.0,) * len(candidates), 0)

    async def check(self) -> None: ...

    async def close(self) -> None: ...


def test_labelled_utterances_are_taught(
    prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    """The others are context: their text is in the prompts, no label is made up for them."""
    examples = main_task(SAID, spaces["meld"], prompts, {})

    assert [labelled.label for labelled in examples] == ["joy", "fear", "sadness"]
    assert all(labelled.label_space is spaces["meld"] for labelled in examples)
    assert tuple(prompts.tokenizer.encode("\n1: So we did.")) in examples[1].example.segments


def test_target_is_the_whole_verbalizer_and_the_end_token(
    prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    """ "joyful" for joy: the word the prompt lists, not the corpus's."""
    examples = main_task(SAID, spaces["meld"], prompts, {})

    encode = prompts.tokenizer.encode
    assert [labelled.example.target for labelled in examples] == [
        (*encode("joyful"), SEP),
        (*encode("fear"), SEP),
        (*encode("sad"), SEP),
    ]


def test_target_ends_with_its_word_where_a_tokenizer_has_no_end(
    prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    without = replace(prompts, tokenizer=replace(prompts.tokenizer, end=None))

    examples = main_task(SAID, spaces["meld"], without, {})

    assert examples[0].example.target == tuple(prompts.tokenizer.encode("joyful"))


def test_demonstrations_are_in_the_prompt_of_the_utterance_they_are_for(
    prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    """And in no other."""
    examples = main_task(SAID, spaces["meld"], prompts, {2: [EXAMPLE], 3: []})

    shown = tuple(prompts.tokenizer.encode("\nExamples:\nMy scarf! = angry\nLast line:"))
    assert [len(labelled.demonstrations) for labelled in examples] == [0, 1, 0]
    assert [shown in labelled.example.segments for labelled in examples] == [False, True, False]
    assert all(
        labelled.example.segments[-1] == tuple(prompts.tokenizer.encode("\nEmotion:"))
        for labelled in examples
    )


def test_soft_labels_are_shares_of_the_verbalizers_first_tokens(
    prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    """Of the utterances that have some; the target itself is the label's own in any case."""
    shares = (0.1, 0.2, 0.0, 0.4, 0.3, 0.0, 0.0)

    examples = main_task(SAID, spaces["meld"], prompts, {}, {2: shares})

    first = [prompts.tokenizer.encode(v)[0] for v in spaces["meld"].verbalizers]
    assert [labelled.example.soft for labelled in examples] == [
        (),
        tuple(zip(first, shares, strict=True)),
        (),
    ]
    plain = main_task(SAID, spaces["meld"], prompts, {})
    assert [e.example.target for e in examples] == [e.example.target for e in plain]


def test_labels_that_begin_alike_share_what_is_expected_of_their_token(
    prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    """To a tokenizer that knows characters alone, every verbalizer begins with the space."""
    characters = Tokenizer(lambda text: tuple(map(ord, text)), (), None)
    alike = replace(prompts, tokenizer=characters, limit=10_000)

    examples = main_task(SAID, spaces["meld"], alike, {}, {0: (0.25, 0.25, 0.5, 0, 0, 0, 0)})

    assert examples[0].example.soft == ((ord(" "), 1.0),)


@pytest.mark.parametrize("template", [V2(), InstructercV1()], ids=lambda template: template.id)
def test_prediction_asks_for_a_turn_that_is_not_shown(
    template: PredictionTemplate, prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    """Its label, from what was said before; a first turn has nothing before it."""
    changed = replace(prompts, template=template)

    examples = prediction_task(SAID, spaces["meld"], changed)

    assert [(e.index, e.label, e.example.task) for e in examples] == [
        (2, "fear", PREDICTION),
        (3, "sadness", PREDICTION),
    ]
    tokens = [token for segment in examples[0].example.segments for token in segment]
    expected = template.prediction(
        spaces["meld"], [Line(0, "We caught the ferry!"), Line(1, "So we did.")], Line(0, "?")
    )
    encode = changed.tokenizer.encode
    assert tokens[1:] == [token for text in expected.segments for token in encode(text)]


def test_speaker_task_asks_who_says_it(
    prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    """Of labelled utterances, in the published prompt."""
    changed = replace(prompts, template=TEMPLATES["instructerc-v1"])

    examples = speaker_task(SAID, spaces["meld"], changed)

    assert [(e.index, e.label, e.example.task) for e in examples] == [
        (0, "Speaker_0", SPEAKER),
        (2, "Speaker_0", SPEAKER),
        (3, "Speaker_1", SPEAKER),
    ]
    assert examples[2].example.target == (*prompts.tokenizer.encode("Speaker_1"), SEP)


def test_speaker_task_of_v2_answers_with_a_number(
    prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    """Behind a cue of its own, in the light of the lines before."""
    examples = speaker_task(SAID, spaces["meld"], prompts)

    encode = prompts.tokenizer.encode
    assert [(e.label, e.example.target) for e in examples] == [
        (answer, (*encode(answer), SEP)) for answer in ("0", "0", "1")
    ]
    assert examples[2].example.segments[-1] == tuple(encode("\nSpeaker:"))
    assert tuple(encode("\n1: So we did.")) in examples[2].example.segments


def test_template_without_a_speaker_task_says_so(
    prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    changed = replace(prompts, template=TEMPLATES["dialoguellm-v1"])

    with pytest.raises(ValueError, match="template dialoguellm-v1 has no speaker task"):
        speaker_task(SAID, spaces["meld"], changed)


def test_template_without_a_prediction_task_says_so(
    prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    changed = replace(prompts, template=TEMPLATES["instructerc-plain-v1"])

    with pytest.raises(ValueError, match="instructerc-plain-v1 has no prediction task"):
        prediction_task(SAID, spaces["meld"], changed)


@pytest.mark.parametrize("template", TEMPLATES)
async def test_model_is_taught_the_very_prompts_it_is_asked_with(
    template: str, prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    """Token for token, through the parts that serve; the window has moved meanwhile."""
    turns = tuple(
        Utterance(f"S{n % 3}", f"This is line {n}, said by {n % 3}.", "joy", SEEN.get(n))
        for n in range(9)
    )
    engine = Listener()
    bundle = described(spaces["meld"], template=template, window=(2, 3), max_tokens=400)
    recognizer = open_recognizer(bundle, prompts.tokenizer, spaces, engine, None)
    await recognize_dialogue(recognizer, turns, spaces["meld"], asyncio.Semaphore(1))

    taught = main_task(
        Dialogue("d", turns),
        spaces["meld"],
        replace(prompts, template=TEMPLATES[template]),
        {},
    )

    assert [
        tuple(token for segment in labelled.example.segments for token in segment)
        for labelled in taught
    ] == engine.prompts


def test_prompt_with_its_target_keeps_to_the_limit(
    prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    """History goes, as in serving."""
    (whole,) = main_task(SAID, spaces["meld"], prompts, {})[-1:]
    length = sum(map(len, whole.example.segments)) + len(whole.example.target)

    (same,) = main_task(SAID, spaces["meld"], replace(prompts, limit=length), {})[-1:]
    (cut,) = main_task(SAID, spaces["meld"], replace(prompts, limit=length - 1), {})[-1:]

    assert same == whole
    assert cut.example.target == whole.example.target
    assert len(cut.example.segments) == len(whole.example.segments) - 3


def test_utterance_that_is_too_long_is_taught_by_its_end(
    prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    """As serving reads it, in every task; the rest of its dialogue is taught as ever."""
    long = replace(SAID.utterances[2], text="hat " * 500)
    dialogue = replace(SAID, utterances=(*SAID.utterances[:2], long, SAID.utterances[3]))
    changed = replace(prompts, window=HistoryWindow(2, 3))

    main = main_task(dialogue, spaces["meld"], changed, {})
    ahead = prediction_task(dialogue, spaces["meld"], changed)
    speaker = speaker_task(dialogue, spaces["meld"], changed)

    labelled = [n for n, utterance in enumerate(dialogue.utterances) if utterance.label is not None]
    assert [one.index for one in main] == [one.index for one in speaker] == labelled
    assert [one.index for one in main if one.truncated] == [2]
    assert [one.index for one in speaker if one.truncated] == [2]
    assert [one.index for one in ahead if one.truncated] == [n for n in labelled if n == 3]
    for one in (*main, *ahead, *speaker):
        size = sum(map(len, one.example.segments)) + len(one.example.target)
        assert size <= changed.limit


def test_room_is_wanted_for_what_is_said(
    prompts: PromptSettings, spaces: Mapping[str, LabelSpace]
) -> None:
    """Before anything is trained; the message says what to raise."""
    with pytest.raises(RecipeError, match=r"max_tokens: 30 is too low for the task main of meld"):
        check_room(spaces["meld"], ["main"], replace(prompts, limit=30))
    check_room(spaces["meld"], ["main", "prediction", "speaker"], prompts)
