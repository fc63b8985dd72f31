"""Examples that the hand networks learn from."""
