"""Training: datasets, fit loop, schedule, distribution and the run folder."""
