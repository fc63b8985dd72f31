"""Geometry and contrast of the crop."""
