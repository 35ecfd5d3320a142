"""Which demonstrations a training prompt may show."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.conversation.dialogue import Demonstration, Dialogue, Utterance
from service.conversation.labels import LabelSpace
from training.arrays import Vectors
from training.datasets.reading import Corpus
from training.mixture.pairing import (
    Pool,
    Query,
    dialogues_of_lines,
    pool_of_corpora,
    pool_of_demonstrations,
)

Encode = Callable[[Sequence[str]], Vectors]

# Seven neutral, three of joy, two of fear, in four dialogues.
LABELS = ["neutral", "joy", "neutral", "fear", "neutral", "joy"] + ["neutral"] * 4 + ["joy", "fear"]
DIALOGUES = tuple(
    Dialogue(
        f"d{n}",
        tuple(
            Utterance("a", f"word{n} of turn{index} and all", LABELS[3 * n + index])
            for index in range(3)
        ),
    )
    for n in range(4)
)


@pytest.fixture
def meld(spaces: Mapping[str, LabelSpace]) -> LabelSpace:
    return spaces["meld"]


def everything(dialogues: Sequence[Dialogue], encode: Encode) -> Pool:
    """Every utterance, as a demonstration."""
    pairs = [
        (Demonstration(f"{d.id}/{n}", "meld", u.label or "", u.text), d.id)
        for d in dialogues
        for n, u in enumerate(d.utterances)
    ]
    return Pool(
        tuple(demonstration for demonstration, _ in pairs),
        encode([demonstration.text for demonstration, _ in pairs]),
        tuple(dialogue for _, dialogue in pairs),
    )


def of(dialogues: Sequence[str], label: str | None = None) -> list[Query]:
    """Queries of dialogues, with words of their own."""
    return [Query(f"query {n}", dialogue, label) for n, dialogue in enumerate(dialogues)]


def test_utterance_is_never_shown_itself_nor_its_dialogue(encode: Encode) -> None:
    """Its own text is nearest to it, and its neighbours stand in its history."""
    pool = everything(DIALOGUES, encode)
    texts = [d.text for d in pool.demonstrations]

    matches = pool.nearest(encode(texts), of(pool.dialogues), 100)

    for dialogue, shown in zip(pool.dialogues, matches, strict=True):
        assert {d.id.split("/")[0] for d in shown} == {"d0", "d1", "d2", "d3"} - {dialogue}
        assert len(shown) == 9


def test_same_words_in_another_dialogue_may_be_shown(encode: Encode) -> None:
    """They may be in serving, too."""
    again = replace(DIALOGUES[0], id="again")

    pool = everything((*DIALOGUES, again), encode)

    (shown,) = pool.nearest(encode([DIALOGUES[0].utterances[1].text]), of(["d0"]), 1)
    assert shown[0].id == "again/1"


def test_dialogue_that_an_utterance_stands_in_elsewhere_is_not_shown(encode: Encode) -> None:
    """Nor is what is said around it there: it is the utterance's own dialogue, cut otherwise."""
    pool = everything(DIALOGUES, encode)
    text = DIALOGUES[0].utterances[1].text

    (shown,) = pool.nearest(encode([text]), [Query(text, "d0", elsewhere=["d2", "gone"])], 20)

    assert {d.id.split("/")[0] for d in shown} == {"d1", "d3"}


def test_line_is_found_in_the_dialogues_that_say_it() -> None:
    """However it is written; a line of three words may be anybody's."""

    def corpus(name: str, **message: tuple[str, ...]) -> Corpus:
        dialogues = tuple(
            Dialogue(key, tuple(Utterance("a", text) for text in texts))
            for key, texts in message.items()
        )
        return Corpus(Path(name), LabelSpace("some", "Some", ()), dialogues)

    by_line = dialogues_of_lines(
        [
            corpus("one", d1=("It's on the table!", "Oh, it is?"), d2=("Oh, it is?",)),
            corpus("two", d1=("IT’S  on the table.",)),
        ]
    )

    assert by_line == {
        ("it", "s", "on", "the", "table"): {(Path("one"), "d1"), (Path("two"), "d1")}
    }


def test_nearest_are_shown_whatever_their_label(encode: Encode) -> None:
    """The paper shows the target's own label, which is to show the answer."""
    pool = everything(DIALOGUES, encode)
    query = encode(["word1 of turn0 and all"])

    (shown,) = pool.nearest(query, of(["elsewhere"]), 3)

    similarity = (query @ pool.vectors.T)[0]
    best = [pool.demonstrations[n].id for n in np.argsort(-similarity, kind="stable")[:3]]
    assert [d.id for d in shown] == best
    assert [d.label for d in shown] == ["fear", "neutral", "neutral"]


def test_same_words_are_left_out_where_the_recipe_says_so(encode: Encode) -> None:
    """Whatever their case, spacing and punctuation: a corpus says "Hello!" a hundred times."""
    again = replace(
        DIALOGUES[0],
        id="again",
        utterances=tuple(replace(u, text=f" {u.text.upper()}!") for u in DIALOGUES[0].utterances),
    )
    pool = everything((*DIALOGUES, again), encode)
    text = DIALOGUES[0].utterances[1].text

    (kept,) = pool.nearest(encode([text]), [Query(text, "d0")], 20)
    (left,) = pool.nearest(encode([text]), [Query(text, "d0")], 20, same_text=False)

    assert {d.id for d in kept} - {d.id for d in left} == {"again/1"}


def test_query_of_one_label_is_shown_that_label_alone(encode: Encode) -> None:
    """As the paper pairs in training; the others as they are."""
    pool = everything(DIALOGUES, encode)
    text = "word1 of turn0 and all"

    any_label, joy = pool.nearest(
        encode([text, text]), [Query(text, "x"), Query(text, "x", "joy")], 5
    )

    assert {d.label for d in any_label} == {"neutral", "joy", "fear"}
    assert [d.label for d in joy] == ["joy", "joy", "joy"]


def test_many_queries_each_get_their_own(encode: Encode) -> None:
    """More than are compared at once; queries and dialogues do not come apart."""
    rng = np.random.default_rng(5)
    queries = rng.normal(size=(2500, 1024)).astype(np.float32)
    pool = everything(DIALOGUES, encode)
    owners = [f"d{n % 5}" for n in range(2500)]

    matches = pool.nearest(queries, of(owners), 2)

    for query, owner, shown in zip(queries, owners, matches, strict=True):
        similarity = query @ pool.vectors.T
        allowed = [n for n in range(12) if pool.dialogues[n] != owner]
        best = sorted(allowed, key=lambda n: -similarity[n])[:2]
        assert [d.id for d in shown] == [pool.demonstrations[n].id for n in best]


def test_pool_that_is_smaller_than_asked_gives_what_it_has(encode: Encode) -> None:
    pool = everything(DIALOGUES[:1], encode)

    assert [len(shown) for shown in pool.nearest(encode(["a", "a"]), of(["d0", "x"]), 5)] == [0, 3]


def test_pool_has_as_many_of_each_label_as_the_rarest_has(encode: Encode, meld: LabelSpace) -> None:
    """Each once, with the id of its place and the dialogue it is from."""
    pool = pool_of_corpora(DIALOGUES, meld, encode, seed=1)

    assert Counter(d.label for d in pool.demonstrations) == {"neutral": 2, "joy": 2, "fear": 2}
    assert len({d.id for d in pool.demonstrations}) == 6
    for demonstration, dialogue in zip(pool.demonstrations, pool.dialogues, strict=True):
        name, _, index = demonstration.id.partition("/")
        utterance = DIALOGUES[int(name.removeprefix("d"))].utterances[int(index)]
        assert (demonstration.text, demonstration.label) == (utterance.text, utterance.label)
        assert (demonstration.label_space, dialogue) == ("meld", name)
    assert (pool.vectors == encode([d.text for d in pool.demonstrations])).all()


def test_pool_without_balance_has_every_labelled_utterance(
    encode: Encode, meld: LabelSpace
) -> None:
    pool = pool_of_corpora(DIALOGUES, meld, encode, seed=1, balanced=False)

    assert Counter(d.label for d in pool.demonstrations) == {"neutral": 7, "joy": 3, "fear": 2}


def test_pool_is_drawn_by_its_seed(encode: Encode, meld: LabelSpace) -> None:
    """Runs can be repeated, and differ where they should."""
    drawn = [
        tuple(d.id for d in pool_of_corpora(DIALOGUES, meld, encode, seed).demonstrations)
        for seed in (1, 1, 2, 3, 4, 5)
    ]

    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_utterance_without_a_label_or_words_is_no_demonstration(
    encode: Encode, meld: LabelSpace
) -> None:
    utterances = (
        Utterance("a", "Yes.", "joy"),
        Utterance("b", "No."),
        Utterance("a", "Hm.", "fear"),
    )
    silent = (Utterance("a", " ", "joy"),)

    pool = pool_of_corpora(
        [Dialogue("d", utterances + silent)], meld, encode, seed=1, balanced=False
    )

    assert [d.text for d in pool.demonstrations] == ["Hm.", "Yes."]


def test_pool_of_unlabelled_dialogues_is_empty(encode: Encode, meld: LabelSpace) -> None:
    """It shows nothing, and breaks nothing."""
    pool = pool_of_corpora([Dialogue("d", (Utterance("a", "No."),))], meld, encode, seed=1)

    assert pool.nearest(encode(["No."]), of(["x"]), 2) == [()]


def test_pool_of_a_file_is_its_demonstrations_in_one_label_space(
    encode: Encode, meld: LabelSpace
) -> None:
    """They are of no dialogue, so every utterance may be shown them."""
    file = [
        Demonstration("1", "meld", "joy", "Yes."),
        Demonstration("2", "unified", "joyful", "Yes."),
        Demonstration("3", "meld", "fear", "No."),
    ]

    pool = pool_of_demonstrations(file, meld, encode)

    assert [d.id for d in pool.demonstrations] == ["1", "3"]
    (shown,) = pool.nearest(encode(["no."]), of(["d0"]), 2)
    assert [d.id for d in shown] == ["3", "1"]
