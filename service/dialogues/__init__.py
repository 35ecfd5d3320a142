"""What is done with stored dialogues: turns, corrections, jobs, and what becomes too old."""
