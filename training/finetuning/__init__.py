"""Trains weights from examples and a base, and makes a bundle of them."""
