"""Durable dialogues: utterances, predictions and corrections, in SQLite or PostgreSQL."""
