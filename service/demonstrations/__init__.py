"""Labelled utterances shown to the model as examples: their encoder and their store."""
