"""Batches and jobs of whole dialogues: read, scored in order, stored."""
