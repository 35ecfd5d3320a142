"""The turns that a turn may see: itself and some before it, none after it."""

import torch


def ago(turns: int) -> torch.Tensor:
    """The number of turns from one back to another, shape (turns, turns); below 0 ahead."""
    places = torch.arange(turns)
    return places.unsqueeze(1) - places


def seen(turns: int, window: int) -> torch.Tensor:
    """Whether a turn sees another: itself and the `window` before; shape (turns, turns)."""
    back = ago(turns)
    return (back >= 0) & (back <= window)


def same_speaker(speakers: torch.Tensor) -> torch.Tensor:
    """From shape (dialogues, turns) to (dialogues, turns, turns)."""
    return speakers.unsqueeze(2) == speakers.unsqueeze(1)
