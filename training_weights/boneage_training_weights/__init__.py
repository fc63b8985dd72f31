"""Weights that boneage trains from."""
