"""Wrap the ONNX graph of others in nodes, so that it takes and answers what the network of a bundle does.

The wrapped graph takes `image`, float32 `(batch, size, size, 1)` in [0, 1], and, if it uses the sex, `male`, float32
`(batch, 1)`, and answers bone age in months, float32 `(batch, 1)`. No code is run here.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from boneage.bundles.read_onnx import INTEGERS, count_ages, drop_weights_from_inputs, find_ends, read_shape
from boneage.configuration.import_spec import AgeOutput, ImageInput, ImportSpec, SexInput

# The first version in which weights need not be inputs.
_MIN_IR_VERSION = 4
# No names of the imported graph begin so once they are renamed.
_PREFIX = "imported/"


def wrap(model: onnx.ModelProto, spec: ImportSpec) -> onnx.ModelProto:
    """Wrap a network by its specification.

    Args:
        model: From `parse_onnx`; it is changed.
        spec: The specification.

    Returns:
        The wrapped network, without the metadata and the documentation of the file. One with a fixed batch of one
        radiograph is run for one after the other.

    Raises:
        ImportModelError: If the network has no such inputs or output, or others, or they have other shapes.
    """
    graph = model.graph
    drop_weights_from_inputs(graph)
    image, sex, output = find_ends(graph, spec)
    is_single = any(read_shape(tensor)[0] == 1 for tensor in (image, sex) if tensor is not None)
    _rename(graph)
    # Within a `Scan` inputs have other names than outside, and no axis of the batch.
    suffix = "_of_one" if is_single else ""
    size = spec.image.size_px
    shapes = {"image": [size, size, 1], **({} if sex is None else {"male": [1]})}
    before, after = _Nodes("before"), _Nodes("after")
    _convert_image(before, f"image{suffix}", image, spec.image)
    if sex is not None:
        _convert_sex(before, f"male{suffix}", sex, spec.sex)
    months = _convert_output(after, output, spec.output, shape=[1] if is_single else [-1, 1])
    nodes = [*before.nodes, *graph.node, *after.nodes]
    batch = [] if is_single else ["batch"]
    inputs = [
        helper.make_tensor_value_info(f"{name}{suffix}", TensorProto.FLOAT, [*batch, *shape])
        for name, shape in shapes.items()
    ]
    outputs = [helper.make_tensor_value_info(months, TensorProto.FLOAT, [*batch, 1])]
    wrapped = helper.make_graph(nodes, "imported", inputs, outputs, initializer=graph.initializer)
    wrapped.sparse_initializer.extend(graph.sparse_initializer)
    if is_single:
        wrapped = _scan(wrapped, shapes, months=months)
    return helper.make_model(
        wrapped,
        ir_version=max(model.ir_version, _MIN_IR_VERSION),
        opset_imports=model.opset_import,
        functions=model.functions,
        producer_name="boneage import",
    )


@dataclasses.dataclass
class _Nodes:
    """Nodes of the wrapping in their order; their outputs are named after them."""

    prefix: str
    nodes: list[onnx.NodeProto] = dataclasses.field(default_factory=list)

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = f"{self.prefix}/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output or name], name=name, **attributes))
        return output or name

    def constant(self, value: Any, dtype: type[np.generic] = np.float32) -> str:
        return self.add("Constant", value=numpy_helper.from_array(np.asarray(value, dtype)))

    def reshape(self, tensor: str, shape: Sequence[int]) -> str:
        return self.add("Reshape", tensor, self.constant(shape, np.int64))


def _convert_image(nodes: _Nodes, name: str, tensor: onnx.ValueInfoProto, spec: ImageInput) -> None:
    low, high = spec.value_range
    value = nodes.reshape(name, [-1, spec.size_px, spec.size_px, 1])
    # What changes nothing is left out.
    for operator, operand, neutral in (("Mul", [high - low], 1), ("Add", [low], 0)):
        if operand != [neutral]:
            value = nodes.add(operator, value, nodes.constant(operand))
    if spec.channels == 3:
        value = nodes.add("Concat", value, value, value, axis=-1)
    for operator, numbers, neutral in (("Sub", spec.mean, 0), ("Div", spec.std, 1)):
        if set(numbers) != {neutral}:
            value = nodes.add(operator, value, nodes.constant(numbers))
    if spec.layout == "NCHW":
        value = nodes.add("Transpose", value, perm=[0, 3, 1, 2])
    elem_type = tensor.type.tensor_type.elem_type
    if elem_type in INTEGERS:
        value = nodes.add("Floor", nodes.add("Add", value, nodes.constant(0.5)))
    nodes.add("Cast", value, to=elem_type, output=tensor.name)


def _convert_sex(nodes: _Nodes, name: str, tensor: onnx.ValueInfoProto, spec: SexInput) -> None:
    male = nodes.reshape(name, [-1, 1])
    female = nodes.add("Sub", nodes.constant(1), male)
    # Each term is the number itself or 0, so that nothing is rounded.
    value = nodes.add(
        "Add",
        nodes.add("Mul", male, nodes.constant(spec.male)),
        nodes.add("Mul", female, nodes.constant(spec.female)),
    )
    if len(tensor.type.tensor_type.shape.dim) == 1:
        value = nodes.reshape(value, [-1])
    nodes.add("Cast", value, to=tensor.type.tensor_type.elem_type, output=tensor.name)


def _convert_output(nodes: _Nodes, tensor: onnx.ValueInfoProto, spec: AgeOutput, *, shape: Sequence[int]) -> str:
    """Convert to months in double precision, which is rounded once, at the end."""
    value = nodes.add("Cast", tensor.name, to=TensorProto.DOUBLE)
    if spec.kind == "years":
        value = nodes.add("Mul", value, nodes.constant(12, np.float64))
    elif spec.kind == "standardised":
        scaled = nodes.add("Mul", value, nodes.constant(spec.std_months, np.float64))
        value = nodes.add("Add", scaled, nodes.constant(spec.mean_months, np.float64))
    elif spec.kind in ("probabilities", "logits"):
        number = count_ages(tensor)
        value = nodes.reshape(value, [-1, number])
        if spec.kind == "logits":
            value = nodes.add("Softmax", value, axis=1)
        ages = spec.first_months + spec.step_months * np.arange(number, dtype=np.float64)
        value = nodes.add("MatMul", value, nodes.constant(ages[:, None], np.float64))
    return nodes.reshape(nodes.add("Cast", value, to=TensorProto.FLOAT), shape)


def _scan(body: onnx.GraphProto, shapes: dict[str, list[int]], *, months: str) -> onnx.GraphProto:
    """Return a graph that runs another for each radiograph of a batch.

    Args:
        body: The graph for one radiograph; its inputs are in the order of `shapes`.
        shapes: Shapes of its inputs by the names that they have outside.
        months: Name of its output.
    """
    node = helper.make_node("Scan", list(shapes), [f"{months}_of_all"], body=body, num_scan_inputs=len(shapes))
    return helper.make_graph(
        [node],
        "imported_for_each",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(f"{months}_of_all", TensorProto.FLOAT, ["batch", 1])],
    )


def _rename(graph: onnx.GraphProto) -> None:
    """Put a prefix before the name of every tensor of a graph, and of the graphs in it."""
    sparse = [part for tensor in graph.sparse_initializer for part in (tensor.values, tensor.indices)]
    for tensor in (*graph.input, *graph.output, *graph.initializer, *sparse):
        tensor.name = _PREFIX + tensor.name
    for node in graph.node:
        # A node needs no name; the rest often tells where its author's source code lies.
        for field in ("name", "doc_string", "metadata_props"):
            node.ClearField(field)
        for names in (node.input, node.output):
            names[:] = [_PREFIX + name if name else "" for name in names]  # an empty one is left out
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _rename(inner)
    del graph.value_info[:]  # known shapes, which ONNX Runtime finds itself
