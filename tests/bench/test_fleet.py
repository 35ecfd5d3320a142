"""How large a fleet is, and the page that says so."""

import random

import pytest

from tests.bench.fleet import (
    PLANNED_SHARE,
    Engine,
    Turn,
    engines_for,
    labelled_twice,
    page,
    read_measured,
    tables,
)

# 100 planned turns a second with the dialogue in the cache, 25 without.
ENGINE = Engine("one", "core", Turn(200, 50, 160), 5000 / PLANNED_SHARE, 1000, 10)


def with_cache(size: float | None) -> Engine:
    return Engine("one", "GPU", ENGINE.turn, ENGINE.tokens_per_second, 1000, 10, size)


def test_engines_whose_cache_is_as_large_as_one_likes_compute_what_is_new() -> None:
    engines = engines_for(1000, ENGINE)

    # 1,000 turns a second, one in ten seconds of each dialogue, 160 tokens of 10 bytes.
    assert engines.cache_bytes == 16e6
    assert (engines.count, engines.holds_dialogues) == (10, True)


@pytest.mark.parametrize(
    ("cache_bytes", "count", "holds_dialogues"),
    [(2e6, 10, True), (1e6, 16, True), (0.4e6, 40, True), (0.3e6, 40, False)],
)
def test_more_engines_hold_the_dialogues_or_prompts_are_computed_whole(
    cache_bytes: float, count: int, holds_dialogues: bool
) -> None:
    """Whichever takes fewer of them."""
    engines = engines_for(1000, with_cache(cache_bytes))

    assert (engines.count, engines.holds_dialogues) == (count, holds_dialogues)


def test_an_engine_reads_no_more_prompts_than_it_can_begin() -> None:
    few = Engine("one", "GPU", ENGINE.turn, 1e9, 100 / PLANNED_SHARE, 10)

    assert engines_for(1000, few).count == 10


@pytest.mark.parametrize("pods", [1, 2, 4, 30])
def test_turns_are_labelled_twice_as_often_as_when_pods_are_drawn(pods: int) -> None:
    """A pod's end is stale if it stored a turn of the dialogue, and another one has since."""
    rng, stale, dialogues = random.Random(5), 0, 20_000
    for _ in range(dialogues):
        stored: list[int] = []
        for _ in range(10):
            pod = rng.randrange(pods)
            stale += pod in stored and stored[-1] != pod
            stored.append(pod)

    assert labelled_twice(pods, 10) == pytest.approx(stale / dialogues / 10, abs=0.01)


def test_what_was_measured_is_what_the_benchmark_says() -> None:
    """A demonstration adds tokens, none of which the next turn finds in the cache."""
    measured = read_measured()
    without, shown = measured.turns[False], measured.turns[True]

    assert shown.tokens > without.tokens > shown.computed > without.computed
    assert shown.kept == without.kept == without.tokens
    assert 0 < measured.prompt_s[False] < 1 / measured.engine_turns[False]


def test_the_page_has_the_tables_of_the_results() -> None:
    """`python -m tests.bench.fleet` prints them."""
    text = page().read_text("utf-8")

    for table in tables().split("\n\n"):
        assert table in text
