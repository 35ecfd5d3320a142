"""What a bundle answers to labelled dialogues, and how good that is."""
