"""Segment the hand: film area, prompts and mask."""
