"""Half-precision ONNX weights: half the size, without effect on masks and landmarks."""

from pathlib import Path

from boneage.base.files import write_atomic

# Smaller arrays stay as they are: they are mostly factors of batch normalisation, hardly any of the file, and what they
# lose reaches whole channels.
_MIN_ELEMENTS = 4096


def store_weights_as_float16(path: Path) -> None:
    """Store the large weights of an ONNX file in half precision; they are cast back to float32 when it is loaded.

    Args:
        path: The file; it is replaced.
    """
    # onnx is installed for training only.
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.ndim < 2 or values.size < _MIN_ELEMENTS:
            continue
        name, halved = weight.name, f"{weight.name}/half"
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), halved))
        casts.append(helper.make_node("Cast", [halved], [name], to=TensorProto.FLOAT, name=f"{name}/cast"))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    with write_atomic(path) as temporary:
        onnx.save(model, temporary)
