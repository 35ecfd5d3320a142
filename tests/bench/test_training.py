"""Two ways to train are compared on the same examples."""

from pathlib import Path

import pytest

from service.conversation.dialogue import read_dialogues
from tests.bench.training import (
    CORPUS,
    RECIPE,
    RECIPE_COPY,
    Epoch,
    length,
    plain_batch,
    runtime,
    table,
    write_run,
)
from training.packing import Example
from training.recipe_files import load_recipe


def test_a_run_trains_on_labelled_dialogues_of_melds_shape(tmp_path: Path) -> None:
    """The last stage of erc-mini for one epoch, so the adapter is the shipped one's."""
    write_run(tmp_path, passes=1)

    recipe, shipped = load_recipe(tmp_path / RECIPE_COPY), load_recipe(RECIPE)
    spoken = list(read_dialogues(tmp_path / CORPUS))
    assert len(spoken) == 60
    assert all(u.label is not None for dialogue in spoken for u in dialogue.utterances)
    assert recipe.lora == shipped.lora
    assert recipe.stages[0].tokens_per_batch == shipped.stages[-1].tokens_per_batch
    assert recipe.stages[0].epochs == 1


def test_steps_of_both_ways_hold_as_many_tokens(tmp_path: Path) -> None:
    """Examples of 64 tokens: 36 of them make 2,304."""
    write_run(tmp_path, passes=1)
    example = Example((tuple(range(40)), tuple(range(20))), (1, 2, 3, 4))

    assert length(example) == 64
    assert plain_batch(load_recipe(tmp_path / RECIPE_COPY), [example] * 10) == 36


def test_the_time_is_the_trainers_own() -> None:
    """With its quotes or without."""
    assert runtime("noise\n{'train_runtime': '12.34', 'epoch': '1'}") == 12.34
    assert runtime("{'train_runtime': 5.0}") == 5.0


def test_a_process_that_did_not_train_is_no_measurement() -> None:
    """What it said is in the error."""
    with pytest.raises(ValueError, match="out of memory"):
        runtime("out of memory")


def test_the_table_ends_with_the_ratio() -> None:
    """Of tokens as they are asked for, however many of them are computed."""
    plain = Epoch("plain", 20.0, 100, 10_000, 15_000, 500.0)
    ours = Epoch("ours", 5.0, 100, 10_000, 4_000, 400.0)

    lines = table([plain, ours]).splitlines()

    assert lines[2] == "| plain | 20.0 | 5.0 | 500 | 1.50 | 500 |"
    assert lines[-1] == "4.00 times as fast"
