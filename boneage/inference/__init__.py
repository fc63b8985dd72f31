"""Inference: from a radiograph to a bone age with its prediction interval."""
