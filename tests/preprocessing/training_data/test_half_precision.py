import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from boneage.preprocessing.training_data.half_precision import store_weights_as_float16


def test_store_weights_as_float16_leaves_small_arrays_exact(tmp_path):
    rng = np.random.default_rng(0)
    kernel, factors = rng.normal(size=(64, 80)).astype(np.float32), rng.normal(size=(1, 80)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "kernel"], ["y"]), helper.make_node("Mul", ["y", "factors"], ["z"])]
    x, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", 64), ("z", 80)))
    weights = [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(factors, "factors")]
    graph = helper.make_graph(nodes, "network", [x], [z], weights)
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    store_weights_as_float16(path)
    stored = {weight.name: numpy_helper.to_array(weight) for weight in onnx.load(path).graph.initializer}
    np.testing.assert_array_equal(stored["kernel/half"], kernel.astype(np.float16))
    np.testing.assert_array_equal(stored["factors"], factors)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    image = rng.normal(size=(1, 64)).astype(np.float32)
    expected = image @ kernel.astype(np.float16).astype(np.float32) * factors
    np.testing.assert_allclose(session.run(None, {"x": image})[0], expected, rtol=1e-4, atol=1e-5)
