"""Segment Anything with torch: the official models and their checkpoints."""
