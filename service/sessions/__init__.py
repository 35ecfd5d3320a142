"""Durable dialogues: what was said and predicted, in SQLite or PostgreSQL."""
