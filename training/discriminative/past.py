"""Which turns a turn may see: itself and some before it, none behind it."""

import torch


def ago(turns: int) -> torch.Tensor:
    """How many turns lie from one back to another, shape (turns, turns); below 0 ahead."""
    places = torch.arange(turns)
    return places.unsqueeze(1) - places


def seen(turns: int, window: int) -> torch.Tensor:
    """Whether a turn sees another: itself and the `window` before; shape (turns, turns)."""
    back = ago(turns)
    return (back >= 0) & (back <= window)


def same_speaker(speakers: torch.Tensor) -> torch.Tensor:
    """From shape (dialogues, turns) to (dialogues, turns, turns)."""
    return speakers.unsqueeze(2) == speakers.unsqueeze(1)
