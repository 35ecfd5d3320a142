"""The mean of the weights that a stage's last steps had."""

from pathlib import Path

import torch

from training.finetuning.averaging import WeightAverage


def model() -> torch.nn.Linear:
    made = torch.nn.Linear(2, 1)
    made.bias.requires_grad = False
    return made


def put(made: torch.nn.Module, weight: float) -> None:
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(weight)


def test_model_is_given_the_mean_of_what_is_trained() -> None:
    """What is frozen stays as it is."""
    made = model()
    average = WeightAverage(made)
    for weight in (1.0, 2.0, 6.0):
        put(made, weight)
        average.add()

    average.apply()

    assert made.weight.tolist() == [[3.0, 3.0]]
    assert made.bias.tolist() == [6.0]


def test_mean_goes_on_where_a_checkpoint_kept_it(tmp_path: Path) -> None:
    made = model()
    average = WeightAverage(made)
    for weight in (1.0, 2.0):
        put(made, weight)
        average.add()
    average.save(tmp_path)

    resumed = WeightAverage(made)
    resumed.load(tmp_path)
    put(made, 6.0)
    resumed.add()
    resumed.apply()

    assert made.weight.tolist() == [[3.0, 3.0]]


def test_mean_goes_on_on_the_device_that_the_weights_are_on(tmp_path: Path) -> None:
    """A checkpoint's is read into main memory."""
    made = model()
    average = WeightAverage(made)
    average.add()
    average.save(tmp_path)
    elsewhere = WeightAverage(made.to("meta"))

    elsewhere.load(tmp_path)
    elsewhere.add()
    elsewhere.apply()


def test_without_steps_nothing_is_kept_or_changed(tmp_path: Path) -> None:
    """A stage that does not average, or has not come to it yet."""
    made = model()
    put(made, 4.0)
    average = WeightAverage(made)

    average.save(tmp_path)
    average.load(tmp_path)
    average.apply()

    assert not list(tmp_path.iterdir())
    assert made.weight.tolist() == [[4.0, 4.0]]
