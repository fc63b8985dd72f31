"""Which radiographs a source has, with labels, splits and what people decided."""
