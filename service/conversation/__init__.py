"""The pure domain: dialogues, label spaces, prompts, predictions. Imports nothing else of ours."""
