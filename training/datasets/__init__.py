"""Corpora: where they come from, how they are read as dialogues, what is held out of training."""
