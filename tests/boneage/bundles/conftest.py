"""Small networks of others as ONNX files, and specifications of them."""

import hashlib
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

SIZE = 32
BASE = {"name": "theirs", "licence": "CC-BY-4.0", "source": "https://example.org/theirs"}


@pytest.fixture(scope="session")
def make_network():
    """A function that writes a network whose answer depends on every pixel, channel and number of the sex."""

    def make(
        path,
        *,
        channels=3,
        layout="NCHW",
        batch="batch",
        num_sex=1,
        sex_rank=2,
        image_type=TensorProto.FLOAT,
        sex_type=TensorProto.FLOAT,
        num_outputs=1,
        center=100.0,
        scale=10.0,
        opset=17,
        names=("image", "male", "months"),
    ):
        rng = np.random.default_rng(0)
        image_name, sex_name, output_name = names
        sizes = [channels, SIZE, SIZE] if layout == "NCHW" else [SIZE, SIZE, channels]
        weights = {
            "pixels": rng.normal(0, scale / SIZE, (channels * SIZE * SIZE, num_outputs)).astype(np.float32),
            "sexes": rng.normal(0, scale, (max(num_sex, 1), num_outputs)).astype(np.float32),
            "center": np.full(num_outputs, center, np.float32),
        }
        nodes = [
            helper.make_node("Cast", [image_name], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["cast"], ["flat"]),
            helper.make_node("MatMul", ["flat", "pixels"], ["seen"]),
            helper.make_node("Add", ["seen", "center"], ["without" if num_sex else output_name]),
        ]
        inputs = [helper.make_tensor_value_info(image_name, image_type, [batch, *sizes])]
        if num_sex:
            shape = [batch, num_sex] if sex_rank == 2 else [batch]
            inputs.append(helper.make_tensor_value_info(sex_name, sex_type, shape))
            weights["two_axes"] = np.int64([-1, num_sex])
            nodes += [
                helper.make_node("Cast", [sex_name], ["cast_sex"], to=TensorProto.FLOAT),
                helper.make_node("Reshape", ["cast_sex", "two_axes"], ["flat_sex"]),
                helper.make_node("MatMul", ["flat_sex", "sexes"], ["by_sex"]),
                helper.make_node("Add", ["without", "by_sex"], [output_name]),
            ]
        graph = helper.make_graph(
            nodes,
            "theirs",
            inputs,
            [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, [batch, num_outputs])],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        model.metadata_props.add(key="author", value="/home/author")
        onnx.save(model, path)
        return path

    return make


@pytest.fixture(scope="session")
def write_spec():
    """A function that writes the specification of a network; what is None is left out."""

    def write(path, model, *, image=None, sex=None, output=None, preprocessing=None, **changes):
        tables = {
            "image": {"input": "image", "size_px": SIZE, **(image or {})},
            "sex": {"input": "male", "female": [0], "male": [1]} if sex is None else sex,
            "output": {"kind": "months", **(output or {})},
            "preprocessing": {"segmenter": "none", **(preprocessing or {})},
        }
        top = {**BASE, "sha256": hashlib.sha256(model.read_bytes()).hexdigest(), **changes}
        lines = [f"{key} = {json.dumps(value)}" for key, value in top.items() if value is not None]
        for name, table in tables.items():
            lines += [
                f"[{name}]",
                *(f"{key} = {json.dumps(value)}" for key, value in table.items() if value is not None),
            ]
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return write
