"""Operations on stored dialogues: turns, corrections, jobs, and expiry."""
