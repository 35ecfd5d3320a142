"""How far corrections are to be trusted, fitted on dialogues."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import load_label_spaces
from service.conversation.neighbours import BOTH_BEGIN, Trust
from service.decoding.bundle import FILE, Base, Bundle, Window, read_bundle, trained_labels
from training.arrays import Vectors
from training.evaluation.trust import fit_trust, pairs, record_trust

WORDS = ("rain", "tea", "train", "song", "lamp", "door", "coat", "bird", "salt", "map")


def encode(texts: Sequence[str]) -> Vectors:
    """A bag of words, with something in common to all."""
    rows = np.full((len(texts), 400), 0.02, np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in text.lower().replace(".", " ").replace(",", " ").split():
            row[sum(map(ord, word)) % 400] += 1
    vectors: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return vectors


def talks(count: int) -> list[Dialogue]:
    rng = random.Random(1)
    dialogues = []
    for number in range(count):
        texts = [
            "Okay."
            if n == 3
            else " ".join(f"{rng.choice(WORDS)}{rng.randrange(9)}" for _ in range(9))
            for n in range(6)
        ]
        dialogues.append(Dialogue(f"d{number}", tuple(Utterance("Ann", text) for text in texts)))
    return dialogues


@pytest.fixture(scope="module")
def trust() -> Trust:
    return fit_trust(talks(40), encode).trust


def test_a_line_said_again_in_its_place_is_taken_for_it(trust: Trust) -> None:
    """So is another wording there, less surely; a like line elsewhere is not."""
    same, reworded = trust.log_odds(1, 1, 5), trust.log_odds(0.7, 1, 5)

    assert same > reworded > 0
    assert trust.log_odds(0.5, 0.2, 5) < trust.log_odds(0.5, BOTH_BEGIN, 5) < 0


def test_a_short_line_elsewhere_is_another_one_and_a_long_one_the_same(trust: Trust) -> None:
    """Nobody can tell one "Okay." from another without its context."""
    assert trust.log_odds(1, 0.2, 1) < 0 < trust.log_odds(1, 0.2, 12)


def test_the_same_dialogues_and_seed_give_the_same_trust() -> None:
    """The held-out half says how often it is wrong."""
    first, second = (fit_trust(talks(20), encode, seed=3) for _ in range(2))

    assert first == second
    assert 0 <= first.mistaken < 0.2


def test_other_lines_are_put_in_a_place() -> None:
    """With the place's own context, and never taken for the line that was said there."""
    pairs_drawn = pairs(talks(10), encode, seed=0)

    put = [pair for pair in pairs_drawn if pair.put_there]
    assert put
    assert not any(pair.same for pair in put)
    assert {round(pair.context_similarity, 3) for pair in put} <= {1.0, BOTH_BEGIN}


def test_too_few_dialogues_are_refused() -> None:
    """Half of them is held out."""
    with pytest.raises(ValueError, match="4 dialogues"):
        fit_trust(talks(3), encode)


def test_a_bundle_keeps_its_trust(tmp_path: Path) -> None:
    """Beside what it said before."""
    spaces = load_label_spaces(Path(__file__).parents[3] / "data" / "label_spaces")
    bundle = Bundle(
        format=1,
        name="mini",
        version="1",
        base=Base(name="base", revision="none"),
        template="v2",
        window=Window(lowest=2, highest=4),
        max_tokens=300,
        demonstrations=1,
        label_spaces={"meld": trained_labels(spaces["meld"])},
        encoder="encoder@1",
        data={},
        code_version="test",
    )
    (tmp_path / FILE).write_text(bundle.model_dump_json())

    record_trust(Trust(-10.0, 5.0, 6.0, 7.0), tmp_path)

    assert read_bundle(tmp_path).trust == Trust(-10.0, 5.0, 6.0, 7.0)
    assert read_bundle(tmp_path).model_copy(update={"corrections": bundle.corrections}) == bundle


def test_dialogues_of_one_line_are_refused() -> None:
    """There is nothing to tell a line said again from."""
    alone = [Dialogue(f"d{n}", (Utterance("Ann", "Okay."),)) for n in range(4)]
    with pytest.raises(ValueError, match="give more"):
        fit_trust(alone, encode)
