"""Which lines are corrected and asked for."""

from service.conversation.dialogue import Dialogue, Utterance
from tests.bench.correction_lines import (
    LENGTHS,
    apart_from,
    beside,
    candidates,
    in_context,
    read_rewordings,
    short_kinds,
)
from training.mixture.paraphrases import paraphrases


def dialogue(name: str, *texts: str) -> Dialogue:
    speakers = ("Ann", "Bob")
    utterances = (Utterance(speakers[n % 2], text, "joy") for n, text in enumerate(texts))
    return Dialogue(name, tuple(utterances))


CALL = dialogue(
    "call", "Hello?", "Hi.", "I am so glad to hear you.", "Okay.", "Where have you been all day?"
)


def test_a_line_is_asked_for_with_two_lines_before_it() -> None:
    """It is the last one, and knows its place."""
    question = in_context("meld", CALL, 2)

    assert [utterance.text for utterance in question.utterances] == [
        "Hello?",
        "Hi.",
        "I am so glad to hear you.",
    ]
    assert question.line is CALL.utterances[2]
    assert question.place == ("call", 2)
    assert (question.gold, question.length) == ("joy", 7)


def test_lines_without_their_whole_context_are_no_candidates() -> None:
    """Nor are short ones; of a dialogue there are as many as asked for."""
    early = dialogue("early", "I am the first one here today.", "Okay.", "What?")

    lines = candidates("meld", [CALL, early], 3, seed=1)

    assert {question.place for question in lines} == {("call", 2), ("call", 4)}
    assert all(question.length in LENGTHS for question in lines)
    assert len(candidates("meld", [CALL, early], 1, seed=1)) == 1


def test_a_dialogue_that_shares_a_line_is_not_apart() -> None:
    """From five words on, case and punctuation aside; of fewer, everybody says them."""
    same = dialogue("same", "Stop.", "Where have you been ALL day")
    other = dialogue("other", "Hello?", "Okay.", "We have never met before, I think.")

    assert apart_from([CALL, same, other], [CALL]) == [other]


def test_the_lines_beside_a_corrected_one_are_not_corrected_themselves() -> None:
    """The one before and the one after, as far as the dialogue goes."""
    corrected = [in_context("meld", CALL, 2), in_context("meld", CALL, 4)]

    neighbours = beside("meld", [CALL], corrected)

    assert {question.place for question in neighbours} == {("call", 1), ("call", 3)}


def test_short_lines_are_of_one_kind_whatever_their_punctuation() -> None:
    """A kind has one line of each dialogue, and two dialogues at least."""
    texts = ("Hello there you.", "Well then.")
    dialogues = [
        dialogue("a", *texts, "Okay.", "What?"),
        dialogue("b", *texts, "okay!", "Okay."),
        dialogue("c", *texts, "Never."),
    ]

    kinds = short_kinds("meld", dialogues, seed=0)

    assert set(kinds) == {("okay",)}
    assert {question.place[0] for question in kinds["okay",]} == {"a", "b"}


def test_a_line_keeps_its_context_or_takes_another() -> None:
    """The speaker stays."""
    question = in_context("meld", CALL, 2)
    strange = (Utterance("Cy", "It rains."),)

    assert question.said_as("Great!").utterances == (
        *CALL.utterances[:2],
        Utterance("Ann", "Great!", "joy"),
    )
    assert question.after(strange).utterances == (*strange, question.line)
    assert question.later(strange).utterances == (*strange, *question.utterances)


def test_the_rewordings_are_what_the_bar_asks_for() -> None:
    """Sixty pairs, two lines of context each, of 5 to 20 words; none is a light paraphrase."""
    pairs = read_rewordings()

    assert len(pairs) == 60
    assert len({pair.asked.line.text for pair in pairs}) == 60
    assert {pair.degree for pair in pairs} == {"near", "middle", "far"}
    for pair in pairs:
        assert len(pair.asked.utterances) == 3
        assert pair.asked.length in LENGTHS
        assert len(pair.reworded.split()) in LENGTHS
        assert pair.labels[0] != pair.labels[1]
        light = {each.text for each in paraphrases(pair.asked.line.text)}
        assert pair.reworded not in light
