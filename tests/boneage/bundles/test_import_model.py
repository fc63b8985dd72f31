"""Networks of others of each convention answer in a bundle what ONNX Runtime answers for the same pixels."""

import hashlib
import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from boneage.bundles.bundle import ONNX_FILE, load_bundle, read_metadata
from boneage.bundles.import_model import import_model

SIZE = 32


@pytest.fixture
def bring_in(make_network, write_spec, tmp_path):
    """A function that makes a network and imports it; it returns the path of the network and the bundle."""

    def work(*, network=None, **spec):
        model = make_network(tmp_path / "theirs.onnx", **(network or {}))
        made = import_model(model, spec=write_spec(tmp_path / "spec.toml", model, **spec), out=tmp_path / "bundle")
        return model, load_bundle(made.bundle)

    return work


def run_directly(model, image, sex=None):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    rows = [
        session.run(None, {"image": row[None], **({} if sex is None else {"male": sex[number : number + 1]})})[0]
        for number, row in enumerate(image)
    ]
    return np.concatenate(rows)


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(0, 256, (4, SIZE, SIZE, 1), np.uint8)


MALE = np.float32([[0], [1], [1], [0]])
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
NAMES = "channels", "layout", "range", "norm", "batch"
CONVENTIONS = [
    pytest.param(channels, layout, value_range, norm, batch, id=f"{layout}-{channels}-{value_range[1]}-{batch}-{name}")
    for (channels, layout, value_range, batch), (name, norm) in itertools.product(
        [
            (3, "NCHW", [0.0, 1.0], "batch"),
            (3, "NHWC", [0.0, 255.0], "batch"),
            (1, "NCHW", [-1.0, 1.0], 1),
            (1, "NHWC", [0.0, 1.0], 1),
            (3, "NCHW", [0.0, 255.0], 1),
        ],
        [("plain", {}), ("one", {"mean": [0.5], "std": [0.25]}), ("imagenet", IMAGENET)],
    )
    if name != "imagenet" or channels == 3
]


@pytest.mark.parametrize(("channels", "layout", "value_range", "norm", "batch"), CONVENTIONS)
def test_import_model_converts_the_image(bring_in, pixels, channels, layout, value_range, norm, batch):
    spread = value_range[1] - value_range[0]
    network = {"channels": channels, "layout": layout, "batch": batch, "scale": 1.0 / spread}
    image = {"channels": channels, "layout": layout, "value_range": value_range, **norm}
    model, bundle = bring_in(network=network, image=image)
    values = pixels.astype(np.float32) / 255 * np.float32(spread) + np.float32(value_range[0])
    values = np.repeat(values, channels, axis=-1)
    values = (values - np.float32(norm.get("mean", [0]))) / np.float32(norm.get("std", [1]))
    expected = run_directly(model, values.transpose(0, 3, 1, 2) if layout == "NCHW" else values, MALE)[:, 0]
    alone = [bundle.predict_batch(pixels[n : n + 1], MALE[n : n + 1])[0] for n in range(4)]
    np.testing.assert_array_equal(alone, expected)  # bit by bit
    np.testing.assert_allclose(bundle.predict_batch(pixels, MALE), expected, rtol=0, atol=2e-5)
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize(
    ("image_type", "dtype"), [(TensorProto.UINT8, np.uint8), (TensorProto.INT32, np.int32), (TensorProto.DOUBLE, float)]
)
def test_import_model_converts_to_the_type_of_the_input(bring_in, pixels, image_type, dtype):
    network = {"image_type": image_type, "scale": 0.01}
    model, bundle = bring_in(network=network, image={"value_range": [0, 255]})
    values = np.repeat(pixels, 3, axis=-1).transpose(0, 3, 1, 2).astype(dtype)
    expected = run_directly(model, values, MALE)[:, 0]
    alone = [bundle.predict_batch(pixels[n : n + 1], MALE[n : n + 1])[0] for n in range(4)]
    np.testing.assert_array_equal(alone, expected)


@pytest.mark.parametrize("batch", ["batch", 1])
@pytest.mark.parametrize(
    ("female", "male", "rank", "sex_type", "dtype"),
    [
        ([0], [1], 2, TensorProto.FLOAT, np.float32),
        ([1], [0], 1, TensorProto.FLOAT, np.float32),
        ([-1], [1], 2, TensorProto.FLOAT, np.float32),
        ([0.1], [-0.7], 2, TensorProto.DOUBLE, np.float64),
        ([0], [1], 2, TensorProto.INT64, np.int64),
        ([1, 0], [0, 1], 2, TensorProto.FLOAT, np.float32),
        ([0, 1], [1, 0], 2, TensorProto.INT64, np.int64),
    ],
)
def test_import_model_converts_the_sex(bring_in, pixels, batch, female, male, rank, sex_type, dtype):
    network = {"num_sex": len(male), "sex_rank": rank, "sex_type": sex_type, "batch": batch}
    sex = {"input": "male", "female": female, "male": male}
    model, bundle = bring_in(network=network, sex=sex)
    # The bundle's numbers are float32, as are those of the networks.
    coded = np.where(MALE > 0.5, np.float32(male), np.float32(female)).astype(dtype)
    values = np.repeat(pixels.astype(np.float32) / 255, 3, axis=-1).transpose(0, 3, 1, 2)
    expected = run_directly(model, values, coded if rank == 2 else coded[:, 0])[:, 0]
    alone = [bundle.predict_batch(pixels[n : n + 1], MALE[n : n + 1])[0] for n in range(4)]
    np.testing.assert_array_equal(alone, expected)
    assert abs(bundle.predict_batch(pixels, MALE) - bundle.predict_batch(pixels, 1 - MALE)).min() > 0.1
    assert bundle.metadata["use_sex"]


@pytest.mark.parametrize("batch", ["batch", 1])
def test_import_model_without_sex(bring_in, pixels, batch):
    model, bundle = bring_in(network={"num_sex": 0, "batch": batch}, sex={})
    values = np.repeat(pixels.astype(np.float32) / 255, 3, axis=-1).transpose(0, 3, 1, 2)
    alone = [bundle.predict_batch(pixels[n : n + 1], MALE[n : n + 1])[0] for n in range(4)]
    np.testing.assert_array_equal(alone, run_directly(model, values)[:, 0])
    np.testing.assert_array_equal(bundle.predict_batch(pixels, MALE), bundle.predict_batch(pixels, 1 - MALE))
    assert [tensor.name for tensor in bundle.session.get_inputs()] == ["image"]


def softmax(values):
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("batch", ["batch", 1])
@pytest.mark.parametrize(
    ("network", "output", "to_months"),
    [
        ({"center": 9.0, "scale": 0.5}, {"kind": "years"}, lambda answer: answer[:, 0] * 12),
        (
            {"center": 0.1, "scale": 0.2},
            {"kind": "standardised", "mean_months": 127.32, "std_months": 41.18},
            lambda answer: answer[:, 0] * 41.18 + 127.32,
        ),
        (
            {"num_outputs": 240, "scale": 3.0},
            {"kind": "logits"},
            lambda answer: softmax(answer) @ np.arange(240.0),
        ),
        (
            {"num_outputs": 20, "scale": 1.0},
            {"kind": "logits", "first_months": 6, "step_months": 12},
            lambda answer: softmax(answer) @ (6 + 12 * np.arange(20.0)),
        ),
        (
            {"num_outputs": 5, "center": 0.2, "scale": 0.001},
            {"kind": "probabilities", "step_months": 30, "output": "months"},
            lambda answer: answer @ (30 * np.arange(5.0)),
        ),
    ],
    ids=["years", "standardised", "logits", "logits-of-years", "probabilities"],
)
def test_import_model_converts_the_output(bring_in, pixels, batch, network, output, to_months):
    model, bundle = bring_in(network={**network, "batch": batch}, output=output)
    values = np.repeat(pixels.astype(np.float32) / 255, 3, axis=-1).transpose(0, 3, 1, 2)
    expected = to_months(run_directly(model, values, MALE).astype(np.float64))
    alone = [bundle.predict_batch(pixels[n : n + 1], MALE[n : n + 1])[0] for n in range(4)]
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-5)


def test_import_model_takes_old_files_and_any_names(tmp_path, pixels, make_network, write_spec):
    """Weights that are inputs too, opset 9, names that the wrapping itself uses, a graph in a graph."""
    model = onnx.load(make_network(tmp_path / "theirs.onnx", opset=9, num_sex=0))
    graph, inner = model.graph, helper.make_graph([], "inner", [], [])
    inner.node.append(helper.make_node("Add", ["months", "more"], ["months_of_one"]))  # both from around it
    inner.output.append(helper.make_tensor_value_info("months_of_one", TensorProto.FLOAT, ["batch", 1]))
    graph.initializer.append(numpy_helper.from_array(np.float32([3]), "more"))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "is_true"))
    graph.node.append(helper.make_node("If", ["is_true"], ["male"], then_branch=inner, else_branch=inner))
    graph.output[0].name = "male"
    for weights in graph.initializer:
        graph.input.append(helper.make_tensor_value_info(weights.name, weights.data_type, weights.dims))
    model.ir_version = 3
    onnx.save(model, tmp_path / "theirs.onnx")
    spec = write_spec(tmp_path / "spec.toml", tmp_path / "theirs.onnx", sex={})
    bundle = load_bundle(import_model(tmp_path / "theirs.onnx", spec=spec, out=tmp_path / "bundle").bundle)
    values = np.repeat(pixels.astype(np.float32) / 255, 3, axis=-1).transpose(0, 3, 1, 2)
    expected = run_directly(make_network(tmp_path / "plain.onnx", num_sex=0), values)[:, 0] + 3
    np.testing.assert_allclose(bundle.predict_batch(pixels, MALE), expected, atol=2e-5)
    assert b"/home/author" not in (bundle.folder / ONNX_FILE).read_bytes()


def test_import_model_describes_itself(bring_in, tmp_path):
    model, bundle = bring_in(tta="mirrored")
    metadata = read_metadata(bundle.folder)
    assert metadata["licence"] == "CC-BY-4.0"
    assert metadata["imported"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert metadata["preprocessing"]["image_size_px"] == SIZE
    assert metadata["tta"] == "mirrored"
    assert "interval" not in metadata
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "spec.toml", "theirs.onnx"]
