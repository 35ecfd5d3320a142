"""What the discriminative models are called."""

KINDS = ("speaker-states", "turn-graph")
