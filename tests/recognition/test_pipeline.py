"""From an utterance to its emotion, step by step."""

import math
from collections.abc import Mapping

import pytest

from service.conversation.dialogue import Line
from service.conversation.labels import Label, LabelSpace
from service.decoding.bundle import Bundle, Calibrated, trained_labels
from service.decoding.tokenizer import Tokenizer
from service.errors import DemonstrationsUnavailable, EngineUnavailable, ForecastNotSupported
from service.priority import Priority
from service.recognition.opening import open_recognizer
from service.recognition.pipeline import Recognizer
from tests.recognition.conftest import (
    OpenRecognizer,
    ScriptedEngine,
    ScriptedRetrieval,
    Words,
    corrected,
)

HELLO = [Line(0, "Hello there."), Line(1, "Where is it?")]
INSTRUCTION = (
    "<begin>You are an expert in the analysis of sentiment and emotion. "
    "Say which emotion the last line of the conversation carries. "
    "Labels: neutral, surprise, fear, sad, joyful, disgust, angry.\nConversation:"
)
QUESTION = "\nNext line, by 0, not yet spoken. Predict its emotion.\nEmotion:"
EXAMPLES = "\nExamples:\nWho took it? = angry\nFound it! = joyful\nLast line:\n1: Where is it?"


async def test_model_reads_history_then_examples_then_the_cue(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """One prompt, once, and its examples are the answer's demonstrations."""
    recognition = await recognizer.recognize(HELLO, recognizer.label_space("meld"))

    assert engine.prompts == [
        INSTRUCTION + "\n0: Hello there.\n1: Where is it?" + EXAMPLES + "\nEmotion:"
    ]
    assert engine.priorities == [Priority.INTERACTIVE]
    assert [heard.match.demonstration.id for heard in recognition.demonstrations] == ["e1", "e2"]
    assert recognition.degraded == ()


async def test_examples_are_sought_for_the_target_alone(
    recognizer: Recognizer, retrieval: ScriptedRetrieval
) -> None:
    """With the lines before it, in its label space, as many as the model knows, of its tenant."""
    await recognizer.recognize(HELLO, recognizer.label_space("MELD"), tenant="one")

    assert retrieval.asked == [(["Hello there.", "Where is it?"], "meld", 2, "one")]


async def test_a_prompt_is_kept_apart_from_those_of_other_tenants(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """Nobody is answered faster because somebody else has said the same."""
    for tenant in ("one", None):
        await recognizer.recognize(HELLO, recognizer.label_space("meld"), tenant=tenant)

    assert engine.salts == ["one", None]


async def test_texts_are_kept_as_tokens_for_their_tenant_alone(
    bundle: Bundle, spaces: Mapping[str, LabelSpace], words: Words, engine: ScriptedEngine
) -> None:
    """In a forecast too."""
    owners: list[str | None] = []

    def encode_owned(owner: str | None, text: str) -> tuple[int, ...]:
        owners.append(owner)
        return words.encode(text)

    trained = bundle.model_copy(update={"tasks": ("main", "prediction")})
    tokenizer = Tokenizer(words.encode, (0,), 1, encode_owned)
    recognizer = open_recognizer(trained, tokenizer, spaces, engine, None)

    await recognizer.recognize(HELLO, spaces["meld"], tenant="one")
    assert set(owners) == {"one"}
    owners.clear()
    await recognizer.forecast(HELLO, 0, spaces["meld"], tenant="two")
    assert set(owners) == {"two"}


async def test_answer_says_how_the_model_saw_it(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """Label, confidence and label mass."""
    engine.believes = {"sad": 0.6, "joyful": 0.2}

    recognition = await recognizer.recognize(HELLO, recognizer.label_space("meld"))

    assert recognition.prediction.label.name == "sadness"
    assert recognition.prediction.confidence == pytest.approx(0.75)
    assert recognition.prediction.label_mass == pytest.approx(0.8)


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.8), (2.0, 2 / 3), (0.5, 16 / 17)])
async def test_bundles_temperature_calibrates_its_label_space(
    temperature: float,
    expected: float,
    open_with: OpenRecognizer,
    engine: ScriptedEngine,
    spaces: Mapping[str, LabelSpace],
) -> None:
    """Each label space has its own; 4 to 1 becomes 2 to 1 at 2 and 16 to 1 at a half."""
    meld = trained_labels(spaces["meld"]).model_copy(update={"temperature": temperature})
    recognizer = open_with(
        label_spaces={"meld": meld, "unified": trained_labels(spaces["unified"])}
    )
    engine.believes = {"joyful": 0.8, "fear": 0.2}

    in_meld = await recognizer.recognize(HELLO, recognizer.label_space("meld"))
    engine.believes = {"joyful": 0.8, "sad": 0.2}
    unified = await recognizer.recognize(HELLO, recognizer.label_space("unified"))

    assert in_meld.prediction.confidence == pytest.approx(expected)
    assert unified.prediction.confidence == pytest.approx(0.8)


async def test_bundles_curves_calibrate_its_label_space(
    open_with: OpenRecognizer, engine: ScriptedEngine, spaces: Mapping[str, LabelSpace]
) -> None:
    """0.8 of joy is true in half of the cases, 0.2 of fear in all; others share what is left."""
    space = spaces["meld"]
    curves = dict.fromkeys(space.names, ((0.0, 0.02),))
    changed = {**curves, "joy": ((0.0, 0.1), (0.8, 0.5)), "fear": ((0.2, 1.0),)}
    meld = trained_labels(space).model_copy(update={"isotonic": changed})
    recognizer = open_with(label_spaces={"meld": meld})
    engine.believes = {"joyful": 0.8, "fear": 0.2}

    recognition = await recognizer.recognize(HELLO, recognizer.label_space("meld"))

    probabilities = dict(zip(space.names, recognition.prediction.probabilities, strict=True))
    assert recognition.prediction.label.name == "fear"
    assert probabilities["fear"] == pytest.approx(1.0 / 1.6)
    assert probabilities["joy"] == pytest.approx(0.5 / 1.6)
    assert probabilities["anger"] == pytest.approx(0.02 / 1.6)


async def test_lost_retrieval_degrades_the_answer_and_does_not_fail_it(
    recognizer: Recognizer, engine: ScriptedEngine, retrieval: ScriptedRetrieval
) -> None:
    """The prompt is one the model was trained on too: the same without examples."""
    retrieval.failure = DemonstrationsUnavailable("scripted")

    recognition = await recognizer.recognize(HELLO, recognizer.label_space("meld"))

    assert recognition.degraded == ("demonstrations",)
    assert recognition.demonstrations == ()
    assert engine.prompts == [INSTRUCTION + "\n0: Hello there.\n1: Where is it?\nEmotion:"]


async def test_other_failures_of_retrieval_are_not_hidden(
    recognizer: Recognizer, retrieval: ScriptedRetrieval
) -> None:
    """A mistake of ours is no outage."""
    retrieval.failure = TypeError("scripted")

    with pytest.raises(TypeError, match="scripted"):
        await recognizer.recognize(HELLO, recognizer.label_space("meld"))


async def test_a_correction_of_a_like_utterance_outweighs_the_model(
    recognizer: Recognizer, engine: ScriptedEngine, retrieval: ScriptedRetrieval
) -> None:
    """And is shown to it; the answer says what the model says alone."""
    engine.believes = {"joyful": 0.99}
    retrieval.corrections = [corrected("c1", "sadness", 0.95, 1.0, "Where was it?")]

    recognition = await recognizer.recognize(HELLO, recognizer.label_space("meld"), tenant="one")

    assert recognition.prediction.label.name == "sadness"
    assert recognition.model_alone is not None
    assert recognition.model_alone.label.name == "joy"
    assert [heard.match.demonstration.id for heard in recognition.demonstrations] == ["c1", "e1"]
    assert "Where was it?" in engine.prompts[0]


async def test_a_correction_without_a_vote_leaves_no_trace(
    recognizer: Recognizer, engine: ScriptedEngine, retrieval: ScriptedRetrieval
) -> None:
    """Neither in the prompt nor in a digit of the answer."""
    engine.believes = {"joyful": 0.6, "sad": 0.3}
    space = recognizer.label_space("meld")
    before = await recognizer.recognize(HELLO, space, tenant="one")
    far = corrected("c1", "sadness", 0.78, 0.2, "Who?")
    unknown = corrected("c2", "relief", 1.0, 1.0)  # of a label space that has changed since

    retrieval.corrections = [far, unknown]

    assert await recognizer.recognize(HELLO, space, tenant="one") == before
    assert before.model_alone is None


@pytest.mark.parametrize("shown", [2, 0])
async def test_a_correction_counts_whether_or_not_prompts_show_demonstrations(
    shown: int, open_with: OpenRecognizer, engine: ScriptedEngine, retrieval: ScriptedRetrieval
) -> None:
    """Where they show none, it is looked for while the prompt is read."""
    recognizer = open_with(demonstrations=shown)
    retrieval.corrections = [corrected("c1", "sadness", 1.0, 1.0)]

    recognition = await recognizer.recognize(HELLO, recognizer.label_space("meld"), tenant="one")

    assert recognition.prediction.label.name == "sadness"
    assert recognition.demonstrations[0].shown is (shown > 0)
    assert ("Examples" in engine.prompts[0]) is (shown > 0)


async def test_a_failure_beside_lost_retrieval_is_told_as_it_is(
    open_with: OpenRecognizer, engine: ScriptedEngine, retrieval: ScriptedRetrieval
) -> None:
    """Not as one of a group of failures."""
    recognizer = open_with(demonstrations=0)
    retrieval.failure = TypeError("scripted")

    with pytest.raises(TypeError, match="scripted"):
        await recognizer.recognize(HELLO, recognizer.label_space("meld"), tenant="one")


@pytest.mark.parametrize("without", ["retrieval", "demonstrations"])
async def test_answer_that_should_have_no_examples_is_not_degraded(
    without: str,
    open_with: OpenRecognizer,
    engine: ScriptedEngine,
    retrieval: ScriptedRetrieval,
) -> None:
    """Retrieval is off, or the model was trained without; nobody is asked."""
    recognizer = (
        open_with(retrieval=None) if without == "retrieval" else open_with(demonstrations=0)
    )

    recognition = await recognizer.recognize(HELLO, recognizer.label_space("meld"))

    assert (recognition.demonstrations, recognition.degraded) == ((), ())
    assert retrieval.asked == []
    assert "Examples" not in engine.prompts[0]


async def test_no_example_found_is_no_degradation(
    recognizer: Recognizer, retrieval: ScriptedRetrieval
) -> None:
    """An empty label space answers, too."""
    retrieval.matches = []

    recognition = await recognizer.recognize(HELLO, recognizer.label_space("meld"))

    assert (recognition.demonstrations, recognition.degraded) == ((), ())


async def test_examples_that_found_no_room_are_not_claimed(
    open_with: OpenRecognizer, engine: ScriptedEngine, words: Words
) -> None:
    """The answer names what the model saw."""
    shortest = INSTRUCTION.removeprefix("<begin>") + "\n1: Where is it?\nEmotion:"
    # BOS before it, and the token that is read behind it.
    recognizer = open_with(max_tokens=1 + len(words.encode(shortest)) + 1)

    recognition = await recognizer.recognize(HELLO, recognizer.label_space("meld"))

    assert engine.prompts == [f"<begin>{shortest}"]
    assert (recognition.demonstrations, recognition.degraded) == ((), ())


async def test_utterance_that_does_not_fit_is_read_by_its_end(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """As that end alone would be, but that the answer says so."""
    meld = recognizer.label_space("meld")
    words = [f"word{n}" for n in range(400)]

    recognition = await recognizer.recognize([Line(0, " ".join(words))], meld)

    (prompt,) = engine.prompts
    end = prompt.removeprefix(INSTRUCTION + "\n0: ").removesuffix("\nEmotion:")
    assert engine.lengths == [299]
    assert words[-len(end.split()) :] == end.split()
    alone = await recognizer.recognize([Line(0, end)], meld)
    assert engine.prompts == [prompt, prompt]
    assert (recognition.truncated, alone.truncated) == (True, False)
    assert recognition.prediction == alone.prediction
    assert recognition.demonstrations == alone.demonstrations == ()


@pytest.mark.parametrize("length", range(20, 61))
async def test_model_is_never_asked_for_more_than_it_reads(
    length: int, words: Words, engine: ScriptedEngine, bundle: Bundle
) -> None:
    """With the longest verbalizer appended and the token behind it, a prompt has `max_tokens`.

    The verbalizers begin alike, so that each is scored whole.
    """
    space = LabelSpace(
        "moods",
        "Moods",
        tuple(Label(v, v, "joyful") for v in ("quite well", "quite well then", "quite ill")),
    )
    engine.believes = dict.fromkeys(("quite", "well", "then", "ill", "<end>"), 0.3)
    recognizer = open_recognizer(
        bundle.model_copy(
            update={"label_spaces": {"moods": trained_labels(space)}, "max_tokens": 60}
        ),
        Tokenizer(words.encode, (0,), 1),
        {"moods": space},
        engine,
        None,
    )
    lines = [Line(0, "so " * 20), Line(1, "word " * length)]

    recognition = await recognizer.recognize(lines, space)

    assert 50 < max(engine.lengths) + 1 <= 60
    assert recognition.truncated == (length > 23)


async def test_engine_that_is_away_fails_the_answer(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    engine.failure = EngineUnavailable("scripted")

    with pytest.raises(EngineUnavailable, match="scripted"):
        await recognizer.recognize(HELLO, recognizer.label_space("meld"))


def test_callers_keep_as_many_lines_as_the_window_may_show(recognizer: Recognizer) -> None:
    assert recognizer.history_lines == 4


@pytest.mark.parametrize("length", range(1, 20))
async def test_end_of_a_dialogue_is_read_as_the_whole_is(
    length: int, recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """`history_lines` before the target and where they begin are all that a caller needs."""
    lines = [Line(n % 3, f"Line {n}.") for n in range(length)]
    first = max(0, length - 1 - recognizer.history_lines)

    await recognizer.recognize(lines, recognizer.label_space("meld"))
    await recognizer.recognize(lines[first:], recognizer.label_space("meld"), first=first)

    assert engine.prompts[0] == engine.prompts[1]


async def test_warm_up_reads_every_label_space(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """What an engine does at first use, it does before anybody waits."""
    await recognizer.warm_up()

    assert ["joyful, disgust, angry" in prompt for prompt in engine.prompts] == [True, False]
    assert ["peaceful, powerful" in prompt for prompt in engine.prompts] == [False, True]


async def test_answer_to_text_in_another_language_is_marked(
    open_with: OpenRecognizer, retrieval: ScriptedRetrieval
) -> None:
    """By the target alone, beside what else is amiss."""
    recognizer = open_with(languages=("en",))
    german, english = Line(0, "Das ist doch nicht dein Ernst, oder?"), Line(1, "Where is it?")
    space = recognizer.label_space("meld")

    assert (await recognizer.recognize([english, german], space)).degraded == ("language",)
    assert (await recognizer.recognize([german, english], space)).degraded == ()
    retrieval.failure = DemonstrationsUnavailable("scripted")
    recognition = await recognizer.recognize([german], space)
    assert recognition.degraded == ("demonstrations", "language")


async def test_nothing_is_marked_where_a_bundle_names_no_language(
    recognizer: Recognizer,
) -> None:
    """Nobody knows what it reads."""
    german = Line(0, "Das ist doch nicht dein Ernst, oder?")

    recognition = await recognizer.recognize([german], recognizer.label_space("meld"))

    assert recognition.degraded == ()


async def test_forecast_is_not_marked(open_with: OpenRecognizer) -> None:
    """Nothing was said yet."""
    recognizer = open_with(tasks=("main", "prediction"), languages=("en",))
    german = Line(0, "Das ist doch nicht dein Ernst, oder?")

    forecast = await recognizer.forecast([german], 1, recognizer.label_space("meld"))

    assert forecast.degraded == ()


async def test_warm_up_is_in_no_particular_language(open_with: OpenRecognizer) -> None:
    """A model that does not read English comes up."""
    await open_with(languages=("ja",)).warm_up()


async def test_warm_up_fails_where_retrieval_is_away(
    recognizer: Recognizer, retrieval: ScriptedRetrieval
) -> None:
    """A service does not come up degraded."""
    retrieval.failure = DemonstrationsUnavailable("scripted")

    with pytest.raises(DemonstrationsUnavailable):
        await recognizer.warm_up()


async def test_whole_verbalizers_are_scored_where_first_tokens_are_alike(
    words: Words, engine: ScriptedEngine, bundle: Bundle
) -> None:
    """p(very) p(up) p(end) against p(very) p(end): 0.12 to 0.18."""
    space = LabelSpace(
        "moods", "Moods", (Label("up", "very up", "joyful"), Label("much", "very", "joyful"))
    )
    engine.believes = {"very": 0.6, "up": 2 / 3, "<end>": 0.3}
    recognizer = open_recognizer(
        bundle.model_copy(update={"label_spaces": {"moods": trained_labels(space)}}),
        Tokenizer(words.encode, (0,), 1),
        {"moods": space},
        engine,
        None,
    )

    recognition = await recognizer.recognize(HELLO, space)

    assert math.isclose(recognition.prediction.label_mass, 0.12 + 0.18)
    assert recognition.prediction.probabilities == pytest.approx((0.4, 0.6))
    assert len(set(engine.prompts)) == len(engine.prompts) == 3


@pytest.fixture
def forecaster(open_with: OpenRecognizer) -> Recognizer:
    """A recognizer whose model was trained on the prediction task."""
    return open_with(tasks=("main", "prediction"))


async def test_forecast_reads_history_then_who_speaks_next_then_the_cue(
    forecaster: Recognizer, engine: ScriptedEngine, retrieval: ScriptedRetrieval
) -> None:
    """One prompt, once; nothing is retrieved, since nothing was said."""
    forecast = await forecaster.forecast(HELLO, 0, forecaster.label_space("meld"))

    assert engine.prompts == [INSTRUCTION + "\n0: Hello there.\n1: Where is it?" + QUESTION]
    assert engine.priorities == [Priority.INTERACTIVE]
    assert retrieval.asked == []
    assert (forecast.demonstrations, forecast.degraded) == ((), ())


async def test_published_template_forecasts_in_its_own_words(
    open_with: OpenRecognizer, engine: ScriptedEngine
) -> None:
    """The question is the template's."""
    forecaster = open_with(template="instructerc-v1", tasks=("main", "prediction"))

    await forecaster.forecast(HELLO, 2, forecaster.label_space("meld"))

    (prompt,) = engine.prompts
    assert prompt.endswith(
        '\t Speaker_1:"Where is it?"###Based on the above historical utterances, next utterance '
        "is spoken by <2>, please predict the emotion states of <2> from "
        "<neutral, surprise, fear, sad, joyful, disgust, angry>:"
    )


@pytest.mark.parametrize(("calibrated", "confidence"), [(True, 16 / 17), (False, 0.8)])
async def test_forecasts_have_a_calibration_of_their_own(
    calibrated: bool,
    confidence: float,
    open_with: OpenRecognizer,
    engine: ScriptedEngine,
    spaces: Mapping[str, LabelSpace],
) -> None:
    """The label space's temperature was fitted on spoken utterances, and is left to them."""
    forecasts = Calibrated(temperature=0.5)
    changes = {"temperature": 2.0, "forecasts": forecasts if calibrated else None}
    meld = trained_labels(spaces["meld"]).model_copy(update=changes)
    forecaster = open_with(label_spaces={"meld": meld}, tasks=("main", "prediction"))
    engine.believes = {"joyful": 0.8, "fear": 0.2}

    forecast = await forecaster.forecast(HELLO, 0, forecaster.label_space("meld"))

    assert forecast.prediction.label.name == "joy"
    assert forecast.prediction.confidence == pytest.approx(confidence)
    assert forecast.prediction.label_mass == pytest.approx(1)
    spoken = await forecaster.recognize(HELLO, forecaster.label_space("meld"))
    assert spoken.prediction.confidence == pytest.approx(2 / 3)


@pytest.mark.parametrize("length", range(1, 20))
async def test_forecast_shows_what_the_coming_turn_will_show(
    length: int, forecaster: Recognizer, engine: ScriptedEngine
) -> None:
    """The same lines before it, from the dialogue's end as from the whole."""
    lines = [Line(n % 3, f"Line {n}.") for n in range(length)]
    first = max(0, length - forecaster.history_lines)
    meld = forecaster.label_space("meld")

    await forecaster.forecast(lines, 0, meld)
    await forecaster.forecast(lines[first:], 0, meld, first=first)
    await forecaster.recognize([*lines, Line(0, "Next.")], meld)

    whole, end, spoken = engine.prompts
    shown = whole.removesuffix(QUESTION)
    assert whole == end
    assert shown.endswith(f"Line {length - 1}.")
    assert spoken.startswith(f"{shown}\n0: Next.\n")


async def test_model_that_was_not_trained_to_forecast_is_not_asked_to(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """It would answer all the same; the error names the bundle."""
    with pytest.raises(
        ForecastNotSupported, match=r"bundle mini was not trained .* tasks are main$"
    ):
        await recognizer.forecast(HELLO, 0, recognizer.label_space("meld"))

    assert engine.prompts == []


async def test_forecast_without_history_is_a_mistake(
    forecaster: Recognizer, engine: ScriptedEngine
) -> None:
    """The published template would ask for the emotion of an empty text."""
    with pytest.raises(ValueError, match="no history"):
        await forecaster.forecast([], 0, forecaster.label_space("meld"))

    assert engine.prompts == []


async def test_forecast_drops_history_but_for_the_last_line(
    forecaster: Recognizer, engine: ScriptedEngine
) -> None:
    """A last line that leaves no room is read by its end."""
    meld = forecaster.label_space("meld")

    whole = await forecaster.forecast([Line(0, "word " * 290), HELLO[1]] * 2, 0, meld)
    cut = await forecaster.forecast([HELLO[0], Line(1, "word " * 400)], 0, meld)

    assert (whole.truncated, cut.truncated) == (False, True)
    assert engine.prompts[0].endswith(" word\n1: Where is it?" + QUESTION)
    assert engine.prompts[1].startswith(INSTRUCTION + "\n1: word word ")
    assert engine.prompts[1].endswith(" word" + QUESTION)
    assert engine.lengths[1] == 299


async def test_engine_that_is_away_fails_a_forecast(
    forecaster: Recognizer, engine: ScriptedEngine
) -> None:
    engine.failure = EngineUnavailable("scripted")

    with pytest.raises(EngineUnavailable, match="scripted"):
        await forecaster.forecast(HELLO, 0, forecaster.label_space("meld"))
