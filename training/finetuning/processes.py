"""The processes that train together, as `torchrun` or `accelerate launch` starts them."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def is_first_process() -> bool:
    """Whether this is the first of the processes, which alone writes files."""
    return os.environ.get("RANK", "0") == "0"


def of_first_process(value: T) -> T:
    """The first process's value, in all of them."""
    from accelerate.utils import broadcast_object_list

    _processes()
    of_first: T = broadcast_object_list([value])[0]
    return of_first


def device() -> "torch.device":
    """The device that this process computes on."""
    own: torch.device = _processes().device
    return own


def wait_for_all() -> None:
    """Wait until every process has come here."""
    _processes().wait_for_everyone()


def shared_out(count: int) -> list[int]:
    """Which of `count` parts of a task are this process's.

    Every process has equally many, a part that is done already where there are too few: what wraps
    a model may have processes wait for each other in each of its calls.
    """
    processes = _processes()
    first, step = int(processes.process_index), int(processes.num_processes)
    rounds = -(-count // step)
    return [min(first + step * number, count - 1) for number in range(rounds)]


def gathered(parts: Mapping[int, T]) -> list[T]:
    """The parts of all processes, in their order, in each of them."""
    from accelerate.utils import gather_object

    _processes()
    return [part for _, part in sorted(dict(gather_object([*parts.items()])).items())]


def _processes() -> Any:
    """The state of the processes; without a GPU they find each other only if told to use CPUs."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())
