"""Tracking with MLflow: the outbox of a run, its sync to a store, the leaderboard; and bundles published on the hub."""
