"""Corpus files, read as dialogues whose labels are names of the corpus's label space."""
