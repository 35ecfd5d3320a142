"""The names of the discriminative models."""

KINDS = ("speaker-states", "turn-graph")
