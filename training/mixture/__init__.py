"""Makes training examples of dialogues: prompts, labels, demonstrations."""
