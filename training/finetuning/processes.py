"""The processes that train together, as `torchrun` or `accelerate launch` starts them."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def is_first_process() -> bool:
    """Whether this is the first of the processes, which alone writes files."""
    return os.environ.get("RANK", "0") == "0"


def of_first_process(value: bool) -> bool:
    """The first process's value, in all of them."""
    from accelerate.utils import broadcast_object_list

    _processes()
    return bool(broadcast_object_list([value])[0])


def device() -> "torch.device":
    """The device that this process computes on."""
    own: torch.device = _processes().device
    return own


def wait_for_all() -> None:
    """Wait until every process has come here."""
    _processes().wait_for_everyone()


def _processes() -> Any:
    """The state of the processes; without a GPU they find each other only if told to use CPUs."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())
