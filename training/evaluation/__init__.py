"""Predictions of labelled dialogues, and measures of them."""
