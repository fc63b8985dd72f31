"""Run ONNX networks with ONNX Runtime, without TensorFlow and torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from jaxtyping import Float32


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Open a network.

    It runs on one core: each worker process handles its own radiograph.

    Args:
        path: The ONNX file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        path,
        options,
        providers=["CPUExecutionProvider"],
        # For thousands of positions, the fused addition and normalisation is slower than the two operations.
        disabled_optimizers=["SkipLayerNormFusion"],
    )


def load_network(path: Path) -> Callable[[Float32[np.ndarray, "..."]], Float32[np.ndarray, "..."]]:
    """Load a network of one input and one output as a function.

    Args:
        path: The ONNX file.
    """
    session = open_session(path)
    name = session.get_inputs()[0].name
    return lambda values: session.run(None, {name: values})[0]
