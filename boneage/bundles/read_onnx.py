"""Read the ONNX file of others without running it, and check it against its specification."""

import math
import textwrap
from collections.abc import Iterable, Sequence

import onnx
from google.protobuf.message import Message
from onnx import TensorProto

from boneage.base.errors import BoneAgeError, suggest_closest
from boneage.configuration.import_spec import ImportSpec

# Operators of the wrapping work from here on; `Scan` has had its present form since.
_MIN_OPSET = 9
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
INTEGERS = (TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64)
# Characters of a list of inputs or outputs in an error.
_MAX_LISTED = 400


class ImportModelError(BoneAgeError):
    """A network of others cannot be imported, or does not match its specification."""


def parse_onnx(content: bytes) -> onnx.ModelProto:
    """Parse an ONNX file. Files that it names are not read.

    Raises:
        ImportModelError: If it is no ONNX file or a damaged one, keeps weights in other files, or is too old.
    """
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's error has no public name that all its implementations share
        raise ImportModelError("not an ONNX file; export the network to ONNX first.") from error
    if not model.graph.node:
        raise ImportModelError("not an ONNX file, or one without a network; export the network to ONNX first.")
    _check_parts(model)
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < _MIN_OPSET:
        raise ImportModelError(f"opset {opset} is too old; export it with opset {_MIN_OPSET} or later.")
    return model


def _check_parts(message: Message) -> None:
    """Check all tensors and texts in a model: also those in attributes, in functions and in graphs within graphs."""
    if isinstance(message, TensorProto) and (message.data_location == TensorProto.EXTERNAL or message.external_data):
        raise ImportModelError(
            "keeps weights in other files (external data), which the SHA-256 does not cover; save it as one file: "
            "onnx.save(onnx.load(path), one_file)."
        )
    for field, value in message.ListFields():
        if field.type in (field.TYPE_MESSAGE, field.TYPE_STRING):
            for part in [value] if isinstance(value, Message | str | bytes) else value:
                if isinstance(part, Message):
                    _check_parts(part)
                elif isinstance(part, bytes):  # protobuf's stand-in for a text that is not UTF-8
                    raise ImportModelError(f"is damaged: its {field.name} is not UTF-8; download it again.")


def drop_weights_from_inputs(graph: onnx.GraphProto) -> None:
    """Old files list their weights as inputs as well."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [tensor for tensor in graph.input if tensor.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)


def find_ends(
    graph: onnx.GraphProto, spec: ImportSpec
) -> tuple[onnx.ValueInfoProto, onnx.ValueInfoProto | None, onnx.ValueInfoProto]:
    """Return the inputs of the image and of the sex, and the output, with their types and shapes checked."""
    image = _find(graph.input, spec.image.input, "input")
    size, channels = spec.image.size_px, spec.image.channels
    wanted = [None, size, size, channels] if spec.image.layout == "NHWC" else [None, channels, size, size]
    _check_tensor(image, [wanted], what=f"{spec.image.layout} with size_px = {size} and channels = {channels}")
    sex = None
    if spec.sex.input:
        sex = _find(graph.input, spec.sex.input, "input")
        number = len(spec.sex.male)
        _check_tensor(
            sex, [[None, number], *([[None]] if number == 1 else [])], what=f"lists of {number} in `female` and `male`"
        )
    known = {spec.image.input, spec.sex.input}
    if left := [tensor.name for tensor in graph.input if tensor.name not in known]:
        raise ImportModelError(
            f"has the input {left[0]!r} too, which the specification does not name; if it is that of the sex, "
            "name it as [sex] input."
        )
    if not spec.output.output and len(graph.output) != 1:
        raise ImportModelError(f"has several outputs; choose one of {_list(graph.output)} as [output] output.")
    output = _find(graph.output, spec.output.output or graph.output[0].name, "output")
    if spec.output.kind in ("probabilities", "logits") and count_ages(output) < 2:
        raise ImportModelError(
            f"output {output.name!r} has the shape {_show_shape(output)}; kind = {spec.output.kind!r} needs a second "
            "axis of a known number of ages."
        )
    return image, sex, output


def count_ages(output: onnx.ValueInfoProto) -> int:
    """Return the number of ages that the output has a probability of; 0 where it is not known."""
    sizes = read_shape(output)[1:]
    return 0 if not sizes or None in sizes else math.prod(size or 0 for size in sizes)


def _find(tensors: Iterable[onnx.ValueInfoProto], name: str, what: str) -> onnx.ValueInfoProto:
    named = {tensor.name: tensor for tensor in tensors}
    if name not in named:
        raise ImportModelError(f"has no {what} {name!r}.{suggest_closest(name, named)} It has {_list(named.values())}.")
    return named[name]


def _list(tensors: Iterable[onnx.ValueInfoProto]) -> str:
    listed = ", ".join(f"{tensor.name!r} of shape {_show_shape(tensor)}" for tensor in tensors) or "none"
    return textwrap.shorten(listed, _MAX_LISTED)


def _check_tensor(tensor: onnx.ValueInfoProto, shapes: Sequence[Sequence[int | None]], *, what: str) -> None:
    """Check the type and the shape of an input: only sizes that are fixed can contradict."""
    if tensor.type.tensor_type.elem_type not in (*FLOATS, *INTEGERS):
        raise ImportModelError(f"input {tensor.name!r} is of a type that is neither floating point nor integer.")
    has = read_shape(tensor)
    if not any(
        len(shape) == len(has)
        and all(size is None or own in (None, size) for own, size in zip(has, shape, strict=True))
        for shape in shapes
    ):
        raise ImportModelError(f"input {tensor.name!r} has the shape {_show_shape(tensor)}, which is not {what}.")
    if has[0] not in (None, 1):
        raise ImportModelError(
            f"input {tensor.name!r} has a fixed batch of {has[0]}; export the network for a batch of 1 or of any size."
        )


def read_shape(tensor: onnx.ValueInfoProto) -> list[int | None]:
    """Return the shape of a tensor; None for a size that is not fixed."""
    return [size.dim_value if size.dim_value > 0 else None for size in tensor.type.tensor_type.shape.dim]


def _show_shape(tensor: onnx.ValueInfoProto) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in read_shape(tensor))})"
