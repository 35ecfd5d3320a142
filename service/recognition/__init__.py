"""The pipeline: history, demonstrations, prompt, label scores, prediction."""
