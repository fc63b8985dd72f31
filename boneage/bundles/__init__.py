"""Bundles: a network with all that is needed to use it, on disk and loaded."""
