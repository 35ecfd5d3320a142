"""What was measured, as a page to look at."""
