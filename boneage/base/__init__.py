"""Errors and atomic file writing, used by every room."""
