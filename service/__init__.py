"""Emotion recognition in conversation as an online service."""
