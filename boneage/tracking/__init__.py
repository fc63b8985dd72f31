"""Tracking with MLflow: the outbox of a run, its sync to a store, and the leaderboard."""
