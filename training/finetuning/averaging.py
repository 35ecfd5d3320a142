"""Means of weights: over the end of a stage, over runs that began at the same weights, and these.

Stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407, section 3): the steps wander
around a better place than the last of them is at.

Model soups (Wortsman et al. 2022, arXiv 2203.05482, section 2): so do runs that differ by their
seed, as long as they stay near each other, and the mean costs what one of them costs.

With the weights that the runs began at (Wortsman et al. 2022, arXiv 2109.01903, section 3), the
mean keeps more of what was learned before.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.files import folder_written_whole

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
        """Add the current weights to the mean."""
        self._steps += 1
        for name, weights in self._trained():
            if self._steps == 1:
                self._mean[name] = weights.detach().clone()
            else:
                # A mean that was loaded lies elsewhere.
                mean = self._mean[name].to(weights.device)
                self._mean[name] = mean.lerp_(weights.detach(), 1 / self._steps)

    def apply(self) -> None:
        """Set the model to the mean weights, if there are any."""
        import torch

        with torch.no_grad():
            for name, weights in self._trained():
                if name in self._mean:
                    weights.copy_(self._mean[name])

    def save(self, folder: Path) -> None:
        """Save the mean in a checkpoint's folder."""
        from safetensors.torch import save_file

        if self._steps:
            save_file(
                {name: mean.contiguous() for name, mean in self._mean.items()}, folder / _MEAN
            )
            (folder / _STEPS).write_text(json.dumps({"steps": self._steps}), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Load a checkpoint's mean, if it has one."""
        from safetensors.torch import load_file

        if (folder / _STEPS).is_file():
            self._mean = load_file(folder / _MEAN)
            self._steps = json.loads((folder / _STEPS).read_text(encoding="utf-8"))["steps"]

    def _trained(self) -> Iterator[tuple[str, "torch.Tensor"]]:
        for name, weights in self._model.named_parameters():
            if weights.requires_grad:
                yield name, weights


def write_mean(shares: Mapping[Path, float], out: Path) -> None:
    """Write the mean of weights that were saved in several folders, tensor by tensor.

    What is not weights is taken from the first folder.

    Args:
        shares: of each folder in the mean; their sum is 1.

    Raises:
        OSError: a folder lacks a file that the first one has.
        KeyError: a file lacks a tensor that the first one has.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    with folder_written_whole(out) as folder:
        first = next(iter(shares))
        for path in sorted(p for p in first.iterdir() if p.is_file()):
            if path.suffix != ".safetensors":
                shutil.copyfile(path, folder / path.name)
                continue
            with ExitStack() as opened:
                files = [
                    opened.enter_context(safe_open(f / path.name, framework="pt")) for f in shares
                ]
                weighed = [*zip(shares.values(), files, strict=True)]
                mean = {
                    name: sum(file.get_tensor(name).double() * share for share, file in weighed).to(
                        files[0].get_tensor(name).dtype
                    )
                    for name in files[0].keys()  # noqa: SIM118  # is no mapping
                }
                save_file(mean, folder / path.name, metadata=files[0].metadata())
