"""Two ways to train are compared on the same examples."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from service.dialogue_files import read_dialogues
from tests.bench.training import (
    CORPUS,
    RECIPE,
    RECIPE_COPY,
    Epoch,
    Padding,
    heard,
    length,
    packed_positions,
    peak_memory_mib,
    plain_batch,
    runtime,
    table,
    told,
    write_run,
)
from training.finetuning.row_attention import RowAttention
from training.mixture.tasks import Example
from training.recipe_files import load_recipe


def test_a_run_trains_on_labelled_dialogues_of_melds_shape(tmp_path: Path) -> None:
    """A stage of erc-mini for one epoch, so the adapter is the shipped one's."""
    write_run(tmp_path, passes=1)

    recipe, shipped = load_recipe(tmp_path / RECIPE_COPY), load_recipe(RECIPE)
    spoken = list(read_dialogues(tmp_path / CORPUS))
    assert len(spoken) == 60
    assert all(u.label is not None for dialogue in spoken for u in dialogue.utterances)
    assert recipe.lora == shipped.lora
    assert recipe.stages[0].tokens_per_batch == shipped.stages[-1].tokens_per_batch
    assert recipe.stages[0].epochs == 1
    # No other label space is trained, and a stage that balances one is refused.
    assert recipe.stages[0].balance.keys() == {"meld"}


def test_steps_of_both_ways_hold_as_many_tokens(tmp_path: Path) -> None:
    """Examples of 64 tokens: 36 of them make 2,304."""
    write_run(tmp_path, passes=1)
    example = Example((tuple(range(40)), tuple(range(20))), (1, 2, 3, 4))

    assert length(example) == 64
    assert plain_batch(load_recipe(tmp_path / RECIPE_COPY), [example] * 10) == 36


def test_what_the_package_computes_includes_padding(tmp_path: Path) -> None:
    """What examples share counts once, what stands behind the shorter row of a batch counts too.

    Two examples of a dialogue are a row of 300 + 2 * 20 tokens; the third has 420, and a batch of
    both is twice as wide as that; a fourth of 2,000 has a batch to itself.
    """
    write_run(tmp_path, passes=1)
    shared, cue, target = tuple(range(300)), tuple(range(16)), (1, 2, 3, 4)
    examples = [
        *(Example((shared, (number, *cue[1:])), target) for number in (7, 8)),
        Example((tuple(range(416)),), target),
        Example((tuple(range(1996)),), target),
    ]

    computed = packed_positions(load_recipe(tmp_path / RECIPE_COPY), examples)

    assert computed == 2 * 420 + 2000


def test_rows_that_are_read_in_blocks_are_long_and_padded_to_a_power_of_two(
    tmp_path: Path,
) -> None:
    """Nine examples of a dialogue are a row of 300 + 9 * 60 tokens."""
    write_run(tmp_path, passes=1)
    shared, cue, target = tuple(range(300)), tuple(range(56)), (1, 2, 3, 4)
    examples = [Example((shared, (number, *cue[1:])), target) for number in range(60, 69)]

    recipe = load_recipe(tmp_path / RECIPE_COPY)

    assert packed_positions(recipe, examples, RowAttention.BLOCKS) == 1024
    assert packed_positions(recipe, examples) == 5 * (300 + 2 * 60)


def test_what_the_plain_loop_computes_includes_padding() -> None:
    """Of each batch, whatever was drawn into it."""

    def collate(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        return {"input_ids": torch.zeros(len(rows), longest)}

    padding = Padding(collate)
    padding([{"input_ids": [1, 2, 3]}, {"input_ids": [1, 2, 3, 4, 5]}])
    padding([{"input_ids": [1, 2, 3, 4]}])

    assert padding.computed == 2 * 5 + 4


def test_a_process_tells_what_it_computed_and_its_memory() -> None:
    """Amid what others print; torch alone takes more than 100 MiB."""
    computed, peak = heard(f"\rhalf a bar{told(31_548, peak_memory_mib())}\nlater: a warning")

    assert computed == 31_548
    assert 100 < peak < 100_000


def test_a_process_that_told_nothing_is_no_measurement() -> None:
    """What it said is in the error."""
    with pytest.raises(ValueError, match="out of memory"):
        heard("out of memory")


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
