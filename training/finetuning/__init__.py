"""From examples and a base to weights, and from weights to a bundle."""
