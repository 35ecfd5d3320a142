"""The mean of a model's weights over the end of a stage.

Stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407, section 3): the steps wander
around a better place than the last of them is at.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_MEAN, _STEPS = "average.safetensors", "average.json"


class WeightAverage:
    """The running mean of the weights that are trained.

    Args:
        model: unsharded; its parameters are read at each `add`.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._mean: dict[str, torch.Tensor] = {}
        self._steps = 0

    def add(self) -> None:
        """Take the weights as they are into the mean."""
        self._steps += 1
        for name, weights in self._trained():
            if self._steps == 1:
                self._mean[name] = weights.detach().clone()
            else:
                self._mean[name].lerp_(weights.detach(), 1 / self._steps)

    def apply(self) -> None:
        """Give the model the mean weights, if there are any."""
        import torch

        with torch.no_grad():
            for name, weights in self._trained():
                if name in self._mean:
                    weights.copy_(self._mean[name])

    def save(self, folder: Path) -> None:
        """Keep the mean in a checkpoint's folder."""
        from safetensors.torch import save_file

        if self._steps:
            save_file(
                {name: mean.contiguous() for name, mean in self._mean.items()}, folder / _MEAN
            )
            (folder / _STEPS).write_text(json.dumps({"steps": self._steps}), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint's mean, if it has one."""
        from safetensors.torch import load_file

        if (folder / _STEPS).is_file():
            self._mean = load_file(folder / _MEAN)
            self._steps = json.loads((folder / _STEPS).read_text(encoding="utf-8"))["steps"]

    def _trained(self) -> Iterator[tuple[str, "torch.Tensor"]]:
        for name, weights in self._model.named_parameters():
            if weights.requires_grad:
                yield name, weights
