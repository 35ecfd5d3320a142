"""The epoch that is kept is the best at what the model will be asked as it serves."""

from pathlib import Path
from typing import Any

import pytest

from training.finetuning.run_record import open_record
from training.finetuning.selection import worth
from training.recipe import CorpusFile, Stage
from training.recipe_files import load_recipe

SCORES = {
    "meld, without demonstrations": 10.0,
    "meld, with demonstrations": 20.0,
    "meld, prediction": 90.0,
    "emorynlp, without demonstrations": 30.0,
    "emorynlp, with demonstrations": 60.0,
    "emorynlp, prediction": 70.0,
}


def stage(**changes: Any) -> Stage:
    described: dict[str, Any] = {
        "name": "only",
        "corpora": (CorpusFile.model_validate({"format": "meld", "path": "train.csv"}),),
        "tasks": {"main": 1, "prediction": 0.1},
        "epochs": 2,
        "learning_rate": 1e-4,
        "keep": "best",
    }
    return Stage.model_validate(described | changes)


@pytest.mark.parametrize(
    ("shown", "mean"),
    [
        ({"count": 0, "share": 1}, 20.0),
        ({"count": 1, "share": 0}, 20.0),
        ({"count": 1, "share": 1}, 40.0),
        ({"count": 1, "share": 0.5}, 30.0),
    ],
    ids=["none", "never", "always", "at times"],
)
def test_main_task_counts_with_what_its_prompts_show(shown: dict[str, Any], mean: float) -> None:
    """The mean of the label spaces, whatever the forecasts are worth."""
    assert worth(SCORES, stage(demonstrations=shown)) == mean


def test_forecast_counts_where_nothing_else_is_learned() -> None:
    assert worth(SCORES, stage(tasks={"main": 0, "prediction": 1})) == 80.0


def test_all_counts_where_nothing_is_scored_that_would() -> None:
    """As where only the last stage's prompts show demonstrations; and nothing at all is 0."""
    always = stage(demonstrations={"count": 1, "share": 1})

    assert worth({"meld, without demonstrations": 5.0}, always) == 5.0
    assert worth({}, always) == 0.0


def test_epoch_with_better_forecasts_alone_is_not_kept(recipe_file: Path, tmp_path: Path) -> None:
    """The second epoch's mean of everything is higher, what it serves is worse."""
    record = open_record(load_recipe(recipe_file), {}, "float32", tmp_path)
    always = stage(demonstrations={"count": 1, "share": 1})

    for epoch, scores in enumerate(((40.0, 50.0, 10.0), (60.0, 49.0, 60.0)), start=1):
        of_meld = dict(zip(list(SCORES)[:3], scores, strict=True))
        record.put_scores("only", epoch, of_meld, always)

    assert record.kept == {"only": 1}
