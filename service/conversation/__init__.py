"""The pure domain: dialogues, label spaces, prompts, predictions. Imports no other room."""
