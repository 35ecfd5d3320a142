"""From dialogues to what a model is taught and shown: prompts, labels, demonstrations."""
