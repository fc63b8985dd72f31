"""Segment Anything by torch: the official checkpoints, and the training of the small one that ships as ONNX."""
