"""Compares epochs: by development scores of what a stage trains."""

from collections.abc import Mapping
from statistics import fmean

from training.mixture.mixing import FORECAST, WITH, WITHOUT
from training.recipe import Stage


def worth(scores: Mapping[str, float], stage: Stage) -> float:
    """The mean of the scores that count; of all of them where none does, 0 where there are none.

    Args:
        scores: by what is asked, as `training.mixture.mixing.held_out` names it.
    """
    asked = counted(stage)
    counting = [score for what, score in scores.items() if what.rpartition(", ")[2] in asked]
    return fmean(counting or scores.values() or [0.0])


def counted(stage: Stage) -> set[str]:
    """Which development scores count for a stage, named as `training.mixture.mixing.held_out` does.

    The main task's, shown demonstrations where every prompt of the stage shows some, shown none
    where none does, and both ways elsewhere. A forecast counts only where the stage trains no main
    task.
    """
    asked = stage.demonstrations
    if not stage.tasks.main and stage.tasks.prediction:
        return {FORECAST}
    if not asked.shown:
        return {WITHOUT}
    return {WITH} if asked.share == 1 else {WITH, WITHOUT}
