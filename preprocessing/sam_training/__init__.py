"""Train hand-SAM."""
