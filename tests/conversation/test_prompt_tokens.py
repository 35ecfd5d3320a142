"""Fitting a prompt into the model's length, and which tokens a verbalizer is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.conversation.dialogue import Demonstration, HistoryWindow, Line
from service.conversation.labels import LabelSpace
from service.conversation.prompts import (
    TEMPLATES,
    DialoguellmV1,
    InstructercPlainV1,
    InstructercV1,
    PredictionTemplate,
    SpeakerTemplate,
    Task,
    Template,
)
from service.conversation.prompts.default_v2 import V2
from service.conversation.prompts.tokens import (
    AnyTask,
    Encode,
    PromptTooLong,
    Starts,
    TokenizedPrompt,
    check_fits,
    fit,
    verbalizer_ids,
)
from service.decoding.tokenizer import Tokenizer

LINES = [Line(n % 2, f"line number {n:02}") for n in range(12)]
EXAMPLES = (
    Demonstration("e1", "meld", "joy", "Hurrah!"),
    Demonstration("e2", "meld", "fear", "Run!"),
)
WHOLE = HistoryWindow(20, 20)
LONG = 10_000


def characters(text: str) -> tuple[int, ...]:
    """A tokenizer whose tokens are characters, so that a prompt's length can be read off it."""
    return tuple(map(ord, text))


def starts_of_characters(text: str) -> Sequence[int]:
    return range(len(text))


def text_of(prompt: TokenizedPrompt) -> str:
    return "".join(map(chr, prompt.ids))


def fitted(
    spaces: Mapping[str, LabelSpace],
    limit: int,
    *,
    lines: Sequence[Line] = LINES,
    examples: Sequence[Demonstration] = EXAMPLES,
    template: Template | None = None,
    window: HistoryWindow = WHOLE,
    first: int = 0,
    begin: Sequence[int] = (),
    task: Task = "main",
) -> TokenizedPrompt:
    return fit(
        template or V2(),
        spaces["meld"],
        window,
        lines,
        examples,
        task=task,
        first=first,
        encode=characters,
        starts=starts_of_characters,
        begin=begin,
        limit=limit,
    )


def length(
    spaces: Mapping[str, LabelSpace], history: int, examples: Sequence[Demonstration]
) -> int:
    """How long the prompt with so many lines of history is."""
    prompt = V2().main(spaces["meld"], LINES[11 - history : 11], LINES[11], examples)
    return len(prompt.text)


def test_prompt_that_fits_is_whole(spaces: Mapping[str, LabelSpace]) -> None:
    """A limit is the last length that fits."""
    limit = length(spaces, 11, EXAMPLES)

    prompt = fitted(spaces, limit)

    assert text_of(prompt) == V2().main(spaces["meld"], LINES[:11], LINES[11], EXAMPLES).text
    assert (prompt.history, prompt.demonstrations) == (11, EXAMPLES)


def test_oldest_history_goes_first(spaces: Mapping[str, LabelSpace]) -> None:
    """Four lines at a time, so that the next turn, too, finds its prefix cached."""
    prompt = fitted(spaces, length(spaces, 11, EXAMPLES) - 1)

    assert text_of(prompt) == V2().main(spaces["meld"], LINES[4:11], LINES[11], EXAMPLES).text
    assert (prompt.history, prompt.demonstrations) == (7, EXAMPLES)


def test_all_history_goes_before_a_demonstration_does(spaces: Mapping[str, LabelSpace]) -> None:
    prompt = fitted(spaces, length(spaces, 0, EXAMPLES))

    assert text_of(prompt) == V2().main(spaces["meld"], [], LINES[11], EXAMPLES).text
    assert (prompt.history, prompt.demonstrations) == (0, EXAMPLES)


def test_demonstrations_go_last(spaces: Mapping[str, LabelSpace]) -> None:
    """What is left is instruction, target and cue."""
    prompt = fitted(spaces, length(spaces, 0, ()))

    assert text_of(prompt) == V2().main(spaces["meld"], [], LINES[11]).text
    assert (prompt.history, prompt.demonstrations) == (0, ())


def test_target_that_does_not_fit_is_shown_by_its_end(spaces: Mapping[str, LabelSpace]) -> None:
    """The prompt is that of the end alone, and says so; the cue stays."""
    shortest = length(spaces, 0, ())

    prompt = fitted(spaces, shortest - 10)

    alone = fitted(spaces, shortest - 10, lines=[Line(1, "r 11")])
    assert text_of(prompt) == V2().main(spaces["meld"], [], Line(1, "r 11")).text
    assert prompt.ids == alone.ids
    assert (prompt.truncated, alone.truncated) == (True, False)
    assert (prompt.history, prompt.demonstrations) == (0, ())


def test_a_prompt_without_any_utterance_has_to_fit(spaces: Mapping[str, LabelSpace]) -> None:
    """The error says by how much it does not; a bundle can be asked before it is served."""
    bare = len(V2().main(spaces["meld"], [], Line(1, "")).text)

    assert text_of(fitted(spaces, bare)).endswith("\n1: \nEmotion:")
    with pytest.raises(PromptTooLong, match=f"has {bare} tokens, but the limit is {bare - 1}"):
        fitted(spaces, bare - 1)
    with pytest.raises(PromptTooLong, match="without any utterance"):
        check_fits(V2(), spaces["meld"], "main", encode=characters, begin=(), limit=bare)


@pytest.mark.parametrize("limit", range(0, 700, 7))
def test_prompt_never_exceeds_the_limit(limit: int, spaces: Mapping[str, LabelSpace]) -> None:
    """Whatever the limit, the end of the target is in it or there is no prompt."""
    try:
        prompt = fitted(spaces, limit, begin=(1, 2))
    except PromptTooLong:
        assert limit < len(V2().main(spaces["meld"], [], Line(1, "")).text) + 2
    else:
        assert len(prompt.ids) <= limit
        whole = "\n1: line number 11\n" in text_of(prompt)
        assert prompt.truncated is not whole
        assert text_of(prompt).endswith("\nEmotion:")


@pytest.mark.parametrize("text", ["said " * 400, "line\n" * 400 + " " * 400])
def test_long_line_of_the_history_is_shown_by_its_end(
    text: str, spaces: Mapping[str, LabelSpace]
) -> None:
    """The turns after it see it, a quarter of a prompt long, and what was said around it."""
    limit, end = 600, " ".join(text.split())[-150:].lstrip()
    lines = [*LINES[:3], Line(1, text), *LINES[4:7]]
    shown = [*LINES[:3], Line(1, end), *LINES[4:7]]

    for target in range(4, 7):
        prompt = fitted(spaces, limit, lines=lines[: target + 1], examples=())

        expected = V2().main(spaces["meld"], shown[:target], shown[target])
        assert text_of(prompt) == expected.text
        assert (prompt.history, prompt.truncated) == (target, False)


def test_history_that_fits_is_whole_however_long_a_line_is(
    spaces: Mapping[str, LabelSpace],
) -> None:
    """Nothing is cut for its length alone."""
    lines = [LINES[0], Line(1, "said " * 400), LINES[2]]

    prompt = fitted(spaces, 3000, lines=lines, examples=())

    assert text_of(prompt) == V2().main(spaces["meld"], lines[:2], lines[2]).text


def test_prediction_shows_history_and_no_demonstrations(
    spaces: Mapping[str, LabelSpace],
) -> None:
    """What was retrieved for a text that nobody has said yet has no place in it."""
    prompt = fitted(spaces, LONG, task="prediction")

    assert text_of(prompt) == V2().prediction(spaces["meld"], LINES[:11], LINES[11]).text
    assert (prompt.history, prompt.demonstrations) == (11, ())


@pytest.mark.parametrize(
    ("missing", "kept"), [(0, 11), (1, 7), (4 * 18, 7), (4 * 18 + 1, 3), (8 * 18 + 1, 1)]
)
def test_prediction_drops_the_oldest_history_and_keeps_the_last_line(
    missing: int, kept: int, spaces: Mapping[str, LabelSpace]
) -> None:
    """Four lines of 18 characters at a time, as the main task does, down to the one before."""
    whole = len(V2().prediction(spaces["meld"], LINES[:11], LINES[11]).text)

    prompt = fitted(spaces, whole - missing, task="prediction")

    expected = V2().prediction(spaces["meld"], LINES[11 - kept : 11], LINES[11])
    assert (text_of(prompt), prompt.history) == (expected.text, kept)


@pytest.mark.parametrize("template", [V2(), InstructercV1()])
def test_prediction_shows_the_end_of_a_last_line_that_does_not_fit(
    template: PredictionTemplate, spaces: Mapping[str, LabelSpace]
) -> None:
    """There is nothing else to predict from."""
    shortest = len(template.prediction(spaces["meld"], LINES[10:11], LINES[11]).text)

    whole = fitted(spaces, shortest, template=template, task="prediction")
    cut = fitted(spaces, shortest - 1, template=template, task="prediction")

    end = Line(0, "ine number 10")
    assert (whole.history, whole.truncated) == (1, False)
    assert (cut.history, cut.truncated) == (1, True)
    assert text_of(cut) == template.prediction(spaces["meld"], [end], LINES[11]).text


@pytest.mark.parametrize("template", [InstructercPlainV1(), DialoguellmV1()])
def test_prediction_of_a_template_without_the_task_is_refused(
    template: Template, spaces: Mapping[str, LabelSpace]
) -> None:
    """The main task's prompt in its place would show what is to be predicted."""
    with pytest.raises(ValueError, match=f"template {template.id} has no prediction task"):
        fitted(spaces, LONG, template=template, task="prediction")


def test_begin_token_counts_and_stands_first_once(spaces: Mapping[str, LabelSpace]) -> None:
    limit = length(spaces, 11, EXAMPLES)

    assert fitted(spaces, limit, begin=(7,)).history == 7
    assert fitted(spaces, limit + 1, begin=(7,)).ids[0] == 7
    assert fitted(spaces, limit + 1, begin=(7,)).ids.count(7) == 1


def test_history_begins_where_the_window_does(spaces: Mapping[str, LabelSpace]) -> None:
    prompt = fitted(spaces, LONG, window=HistoryWindow(3, 5))

    # Turn 11: the window has moved by three, twice, to line 6.
    assert text_of(prompt) == V2().main(spaces["meld"], LINES[6:11], LINES[11], EXAMPLES).text


def test_end_of_a_dialogue_gives_the_prompt_that_the_whole_gives(
    spaces: Mapping[str, LabelSpace],
) -> None:
    """A caller that keeps the last lines only says where they begin."""
    window = HistoryWindow(3, 5)

    end = fitted(spaces, LONG, window=window, lines=LINES[6:], first=6)

    assert end == fitted(spaces, LONG, window=window)


def test_missing_history_is_refused(spaces: Mapping[str, LabelSpace]) -> None:
    """Lines that the window reaches back to must be there."""
    with pytest.raises(ValueError, match="begins with line 7, the window with line 6"):
        fitted(spaces, LONG, window=HistoryWindow(3, 5), lines=LINES[7:], first=7)


def test_template_without_a_place_for_demonstrations_shows_none(
    spaces: Mapping[str, LabelSpace],
) -> None:
    """The prompt says so: nobody may believe that they were shown."""
    prompt = fitted(spaces, LONG, template=InstructercV1())

    assert text_of(prompt) == InstructercV1().main(spaces["meld"], LINES[:11], LINES[11]).text
    assert prompt.demonstrations == ()


def test_v2_verbalizer_is_what_follows_the_cue(minilm: Tokenizer) -> None:
    """Both wordpieces of "joyful"; a lower-casing tokenizer knows no capitals."""
    assert verbalizer_ids(V2(), "joyful", minilm.encode) == (6569, 3993)
    assert verbalizer_ids(V2(), "Joyful", minilm.encode) == (6569, 3993)


def test_verbalizer_is_tokenized_with_the_space_before_it() -> None:
    """The tokens behind "Emotion:" are those of " joyful", as in the text a model reads."""
    assert verbalizer_ids(V2(), "ab", characters) == tuple(map(ord, " ab"))


def test_dialoguellm_v1_verbalizer_stands_on_a_line_of_its_own(minilm: Tokenizer) -> None:
    """The line break before it is the cue's, where tokenizers that keep one end a token."""
    assert verbalizer_ids(DialoguellmV1(), "ab", characters) == tuple(map(ord, "ab"))
    assert verbalizer_ids(DialoguellmV1(), "joyful", minilm.encode) == (6569, 3993)


def test_what_is_seen_is_cut_before_what_is_said(spaces: Mapping[str, LabelSpace]) -> None:
    """It is part of the target: all history goes first, then the sample."""
    target = Line(0, "Look!", "She points at a kite.")
    bare = replace(target, description=None)
    shortest = len(DialoguellmV1().main(spaces["meld"], [], target).text)
    unseen = len(DialoguellmV1().main(spaces["meld"], [], bare).text)

    def at(limit: int) -> TokenizedPrompt:
        return fitted(
            spaces,
            limit,
            lines=[*LINES[:2], target],
            template=DialoguellmV1(),
            window=DialoguellmV1().window,
        )

    assert at(LONG).history == 2
    assert "She points at a kite." in text_of(at(shortest))
    assert (at(shortest).history, at(shortest).demonstrations) == (0, ())
    assert not at(shortest).truncated
    assert "### Video Description:\nnts at a kite.\n" in text_of(at(shortest - 7))
    assert at(shortest - 7).truncated
    assert text_of(at(unseen)) == DialoguellmV1().main(spaces["meld"], [], bare).text
    assert "### Input:\nok!\n" in text_of(at(unseen - 2))
    assert at(unseen).truncated
    assert at(unseen - 2).truncated


def test_what_no_prompt_shows_is_not_cut(spaces: Mapping[str, LabelSpace]) -> None:
    """A description, where the template has no place for one."""
    prompt = fitted(spaces, 600, lines=[Line(0, "Look!", "a kite " * 2000)])

    assert not prompt.truncated


# Words, all kinds of characters, and what takes many tokens or none.
_TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.one_of(
            st.text(min_size=1, max_size=12),
            st.sampled_from(
                ["so it goes", "\n\n", "é", "e\u0301", "😀", "👩\u200d🚀", "漢字", "x" * 200]
            ),
        ),
        max_size=12,
    ).flatmap(lambda parts: st.integers(1, 60).map(lambda n: " ".join(parts) * n)),
)


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(
        st.tuples(st.integers(0, 4), _TEXTS, st.none() | _TEXTS), min_size=1, max_size=8
    ),
    template=st.sampled_from(list(TEMPLATES.values())),
    room=st.integers(0, 300),
    shown=st.booleans(),
    by_bytes=st.booleans(),
)
def test_prompt_of_any_text_fits_in_every_template(
    texts: list[tuple[int, str, str | None]],
    template: Template,
    room: int,
    shown: bool,
    by_bytes: bool,
    spaces: Mapping[str, LabelSpace],
    minilm: Tokenizer,
) -> None:
    """Whatever is said, in tokens of words or of bytes, and always alike."""
    lines = [Line(*words) for words in texts]
    encode = _bytes if by_bytes else minilm.encode
    starts = _starts_of_bytes if by_bytes else minilm.starts
    tasks: list[AnyTask] = ["main"]
    if isinstance(template, PredictionTemplate) and len(lines) > 1:
        tasks.append("prediction")
    if isinstance(template, SpeakerTemplate):
        tasks.append("speaker")
    for task in tasks:
        bare = [Line(line.speaker, "") for line in lines[-2:]]
        least = fitted_with(spaces, template, bare, (), task, encode, starts, LONG).ids

        limit = len(least) + room
        prompt, again = (
            fitted_with(
                spaces, template, lines, EXAMPLES if shown else (), task, encode, starts, limit
            )
            for _ in range(2)
        )

        assert len(prompt.ids) <= limit
        assert prompt == again


def fitted_with(
    spaces: Mapping[str, LabelSpace],
    template: Template,
    lines: Sequence[Line],
    examples: Sequence[Demonstration],
    task: AnyTask,
    encode: Encode,
    starts: Starts,
    limit: int,
) -> TokenizedPrompt:
    return fit(
        template,
        spaces["meld"],
        WHOLE if template.window.highest else template.window,
        lines,
        examples,
        task=task,
        encode=encode,
        starts=starts,
        begin=(7,),
        limit=limit,
    )


def _bytes(text: str) -> tuple[int, ...]:
    return tuple(text.encode(errors="surrogatepass"))


def _starts_of_bytes(text: str) -> list[int]:
    return [n for n, c in enumerate(text) for _ in _bytes(c)]


def test_v1_verbalizer_is_tokenized_by_itself() -> None:
    """As the published code did."""
    assert verbalizer_ids(InstructercV1(), "ab", characters) == tuple(map(ord, "ab"))


def test_tokenizer_that_merges_cue_and_verbalizer_is_refused() -> None:
    """No token would begin the verbalizer, so none could be asked for."""

    def by_colon(text: str) -> tuple[int, ...]:
        return tuple(len(part) for part in text.split("\n"))

    with pytest.raises(ValueError, match="'sad' does not begin a token after"):
        verbalizer_ids(V2(), "sad", by_colon)


@pytest.mark.parametrize("template", [V2(), InstructercV1()])
def test_verbalizer_without_tokens_is_refused(template: Template) -> None:
    """A tokenizer may drop a character that it does not know."""

    def latin(text: str) -> tuple[int, ...]:
        return characters("".join(c for c in text if c < "\u0250").rstrip())

    with pytest.raises(ValueError, match=r"does not begin a token|has no token"):
        verbalizer_ids(template, "喜", latin)


def test_another_space_before_the_verbalizer_is_the_templates_to_say() -> None:
    """A chat model's template may want a line break there."""
    template = replace(V2(), before_verbalizer="\n")

    assert verbalizer_ids(template, "ab", characters) == tuple(map(ord, "\nab"))


def test_long_target_keeps_as_many_of_its_last_tokens_as_fit(
    spaces: Mapping[str, LabelSpace], minilm: Tokenizer
) -> None:
    """No token of the room is left over, where words are cut between."""
    text = " ".join(f"and then, on day {n}, unbelievably, I said" for n in range(300))

    prompt = fitted_with(
        spaces, V2(), [Line(0, text)], (), "main", minilm.encode, minilm.starts, 511
    )

    _, target, _ = prompt.segments
    kept = target[len(minilm.encode("\n0:")) :]
    assert kept == tuple(minilm.encode(text))[-len(kept) :]
    assert len(prompt.ids) == 511
