"""Weights that ship with the package: half their size, at a precision that masks and landmarks do not notice."""

import os
from pathlib import Path


def halve_weights(path: Path) -> None:
    """Store the weights of an ONNX file in half precision; they are cast back to float32 when it is loaded.

    Args:
        path: The file; it is replaced.
    """
    # Only whoever trains has onnx.
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.ndim < 2:
            continue
        name, halved = weight.name, f"{weight.name}/half"
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), halved))
        casts.append(helper.make_node("Cast", [halved], [name], to=TensorProto.FLOAT, name=f"{name}/cast"))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    beside = path.with_name(path.stem + ".part.onnx")
    onnx.save(model, beside)
    os.replace(beside, path)
