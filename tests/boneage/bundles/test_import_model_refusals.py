"""A wrong specification, or a file that is no such network, is refused in one line, and nothing is written."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from boneage.bundles import import_model as module
from boneage.bundles.import_model import import_model
from boneage.bundles.read_onnx import ImportModelError
from boneage.configuration.build import ConfigError
from boneage.configuration.import_spec import read_import_spec


def refuse(folder, model, spec, *, error=ImportModelError):
    """Import, and return the one line of the error; nothing is left beside."""
    before = sorted(folder.iterdir())
    with pytest.raises(error) as raised:
        import_model(model, spec=spec, out=folder / "bundle")
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 700
    assert sorted(folder.iterdir()) == before
    return message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": None}, "`licence` must be the licence of the weights"),
        ({"licence": "  "}, "`licence` must be the licence of the weights"),
        ({"source": None}, "`source` must be where the weights come from"),
        ({"name": "two\nlines"}, "`name` must be"),
        ({"name": None}, "name: Field required"),
        ({"sha256": None}, "`sha256` must be the SHA-256 of the ONNX file"),
        ({"sha256": "0" * 63}, "`sha256` must be the SHA-256 of the ONNX file"),
        ({"license": "MIT"}, "unknown key 'license'. Did you mean 'licence'?"),
        ({"tta": "miror"}, "Did you mean 'mirrored'?"),
        ({"image": {"layot": "NCHW"}}, "spec.toml image: unknown key 'layot'. Did you mean 'layout'?"),
        ({"image": {"layout": "NCWH"}}, "`layout` must be one of NCHW, NHWC"),
        ({"image": {"channels": 2}}, "`channels` must be 1 or 3. Received: 2"),
        ({"image": {"size_px": None}}, "image.size_px: Field required"),
        ({"image": {"size_px": 8}}, "`size_px` must lie in [16, 4096]. Received: 8"),
        ({"image": {"mean": [0.5, 0.5]}}, "`mean` must be a list of one number or of 3"),
        ({"image": {"std": [0.0]}}, "`std` must be positive"),
        ({"image": {"value_range": [1, 1]}}, "`value_range` must be two different values"),
        ({"image": {"mean": "0.5"}}, "image.mean"),
        ({"sex": {"input": "male"}}, "`female` and `male` must be different lists of the same length"),
        ({"sex": {"input": "male", "female": [1], "male": [1]}}, "`female` and `male` must be different lists"),
        ({"sex": {"female": [0], "male": [1]}}, "`female` and `male` need `input`"),
        ({"output": {"kind": "month"}}, "Did you mean 'months'?"),
        ({"output": {"kind": "standardised", "mean_months": 127}}, "`mean_months` and `std_months` are needed"),
        ({"output": {"kind": "years", "mean_months": 127}}, "are for kind = 'standardised'. Received: kind='years'"),
        ({"output": {"kind": "standardised", "mean_months": 1, "std_months": -1}}, "`std_months` must be positive"),
        ({"output": {"kind": "logits", "step_months": 0}}, "`step_months` must not be 0"),
        ({"preprocessing": {"segmenter": "hand_sm"}}, "hand_sam"),
        ({"preprocessing": {"margin": 0.1}}, "Did you mean 'margin_share'?"),
    ],
)
def test_import_model_refuses_a_wrong_specification(tmp_path, make_network, write_spec, changes, message):
    model = make_network(tmp_path / "theirs.onnx")
    assert message in refuse(tmp_path, model, write_spec(tmp_path / "spec.toml", model, **changes), error=ConfigError)


@pytest.mark.parametrize(
    ("network", "spec", "message"),
    [
        ({}, {"sha256": "0" * 64}, "the specification states 000000"),
        ({}, {"image": {"input": "imag"}}, "has no input 'imag'. Did you mean 'image'? It has 'image' of shape (?, 3"),
        ({}, {"image": {"channels": 1}}, "input 'image' has the shape (?, 3, 32, 32), which is not NCHW with size_px"),
        ({}, {"image": {"layout": "NHWC"}}, "has the shape (?, 3, 32, 32), which is not NHWC"),
        ({}, {"image": {"size_px": 64}}, "which is not NCHW with size_px = 64 and channels = 3"),
        ({"batch": 4}, {}, "input 'image' has a fixed batch of 4; export"),
        ({}, {"sex": {}}, "has the input 'male' too, which the specification does not name"),
        ({"num_sex": 0}, {}, "has no input 'male'"),
        ({}, {"sex": {"input": "male", "female": [1, 0], "male": [0, 1]}}, "which is not lists of 2"),
        ({"image_type": TensorProto.STRING}, {}, "input 'image' is of a type that is neither"),
        ({}, {"output": {"output": "years"}}, "has no output 'years'. It has 'months' of shape (?, 1)"),
        ({}, {"output": {"kind": "logits"}}, "needs a second axis of a known number of ages"),
        ({"num_outputs": 240}, {}, "answers 240 values for each radiograph"),
        ({"center": 2.1}, {"output": {"kind": "years"}, "image": {"value_range": [0, 255]}}, "which is no bone age"),
        ({"center": 250.0, "scale": 0.1}, {}, "answers 250"),
        ({"center": -1.0, "scale": 0.001}, {}, "months for a drawn hand of 120, which is no bone age in 0 to 240"),
        ({"center": float("nan")}, {}, "answers nan months"),
        ({"center": float("inf")}, {}, "answers inf months"),
        ({"opset": 8}, {}, "opset 8 is too old"),
    ],
)
def test_import_model_refuses_what_the_network_is_not(tmp_path, make_network, write_spec, network, spec, message):
    model = make_network(tmp_path / "theirs.onnx", **network)
    line = refuse(tmp_path, model, write_spec(tmp_path / "spec.toml", model, **spec))
    assert line.startswith(f"{model}: ")
    assert message in line


def keep_outside(tensor, location):
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.ClearField("raw_data")


@pytest.mark.parametrize("location", ["weights.bin", "/etc/passwd", "../../weights.bin"])
@pytest.mark.parametrize("place", ["initializer", "attribute", "inner graph", "function"])
def test_import_model_reads_no_other_file(tmp_path, make_network, write_spec, place, location):
    path = make_network(tmp_path / "theirs.onnx")
    model = onnx.load(path)
    (tmp_path / "weights.bin").write_bytes(bytes(model.graph.initializer[0].raw_data))
    tensor = numpy_helper.from_array(np.float32([1]), "one")
    keep_outside(tensor, location)
    constant = helper.make_node("Constant", [], ["unused"], value=tensor)
    if place == "initializer":
        keep_outside(model.graph.initializer[0], location)
    elif place == "attribute":
        model.graph.node.append(constant)
    elif place == "inner graph":
        inner = helper.make_graph(
            [constant], "inner", [], [helper.make_tensor_value_info("unused", TensorProto.FLOAT, [1])]
        )
        node = helper.make_node("If", ["is_true"], ["chosen"], then_branch=inner, else_branch=inner)
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "is_true"))
        model.graph.node.append(node)
    else:
        opset = [helper.make_opsetid("", 17)]
        model.functions.append(helper.make_function("theirs", "f", [], ["unused"], [constant], opset))
    path.write_bytes(model.SerializeToString())
    assert "external data" in refuse(tmp_path, path, write_spec(tmp_path / "spec.toml", path))


def test_import_model_runs_no_operators_of_others(tmp_path, make_network, write_spec):
    path = make_network(tmp_path / "theirs.onnx")
    model = onnx.load(path)
    model.graph.node[0].domain = "theirs"
    model.opset_import.append(helper.make_opsetid("theirs", 1))
    onnx.save(model, path)
    assert "ONNX Runtime cannot load it" in refuse(tmp_path, path, write_spec(tmp_path / "spec.toml", path))


def test_import_model_refuses_a_batch_that_is_fixed_within(tmp_path, make_network, write_spec):
    path = make_network(tmp_path / "theirs.onnx")
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.int64([1, 1]), "one_row"))
    model.graph.node[-1].output[0] = "unshaped"
    model.graph.node.append(helper.make_node("Reshape", ["unshaped", "one_row"], ["months"]))
    onnx.save(model, path)
    line = refuse(tmp_path, path, write_spec(tmp_path / "spec.toml", path))
    assert "in a batch of 2: ONNX Runtime cannot run it" in line
    assert line.endswith("export it for a batch of 1 or of any size.")


@pytest.mark.parametrize("content", [b"", b"no network", b"\x80\x04K\x01.", b"PK\x03\x04" + bytes(100)])
def test_import_model_refuses_other_files(tmp_path, write_spec, content):
    model = tmp_path / "theirs.onnx"
    model.write_bytes(content)
    assert "not an ONNX file" in refuse(tmp_path, model, write_spec(tmp_path / "spec.toml", model))


def test_import_model_refuses_answers_that_depend_on_the_batch(tmp_path, make_network, write_spec):
    path = make_network(tmp_path / "theirs.onnx")
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "own"
    model.graph.node.append(helper.make_node("ReduceMean", ["own"], ["mean"], axes=[0], keepdims=1))
    model.graph.node.append(helper.make_node("Sub", ["own", "mean"], ["from_mean"]))
    model.graph.node.append(helper.make_node("Add", ["from_mean", "center"], ["months"]))
    onnx.save(model, path)
    assert "months in a batch of 2 and 100.0 alone" in refuse(
        tmp_path, path, write_spec(tmp_path / "spec.toml", path, image={"value_range": [0, 0.1]})
    )


def test_import_model_refuses_damaged_files(tmp_path, make_network, write_spec):
    """Whatever is wrong around the weights is refused in one line."""
    path = make_network(tmp_path / "theirs.onnx", channels=1, num_sex=0)
    good, weights = path.read_bytes(), bytes(onnx.load(path).graph.initializer[0].raw_data)
    start = good.index(weights)
    around = [*range(start), *range(start + len(weights), len(good))]
    rng, num_refused = np.random.default_rng(0), 0
    for _ in range(60):
        damaged = bytearray(good)
        for place in rng.choice(around, size=3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        spec = write_spec(tmp_path / "spec.toml", path, image={"channels": 1}, sex={})
        try:
            import_model(
                path, spec=spec, out=tmp_path / "bundle"
            )  # some bytes, such as the author's name, do not matter
        except ImportModelError as error:
            assert "\n" not in str(error)
            num_refused += 1
    assert num_refused > 30


def test_import_model_names_what_is_missing(tmp_path, make_network, write_spec):
    model = make_network(tmp_path / "theirs.onnx")
    spec = write_spec(tmp_path / "spec.toml", model)
    assert "No such file" in refuse(tmp_path, tmp_path / "other.onnx", spec)
    assert "No such file" in refuse(tmp_path, model, tmp_path / "other.toml", error=ConfigError)
    spec.write_text("name = ", encoding="utf-8")
    assert "not valid TOML" in refuse(tmp_path, model, spec, error=ConfigError)


def test_import_model_bounds_the_size(tmp_path, make_network, write_spec, monkeypatch):
    model = make_network(tmp_path / "theirs.onnx")
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    assert "is larger than" in refuse(tmp_path, model, write_spec(tmp_path / "spec.toml", model))


def test_import_model_leaves_the_bundle_that_is_there(tmp_path, make_network, write_spec):
    model = make_network(tmp_path / "theirs.onnx")
    spec = write_spec(tmp_path / "spec.toml", model)
    import_model(model, spec=spec, out=tmp_path / "bundle")
    before = {path: path.read_bytes() for path in (tmp_path / "bundle").iterdir()}
    refuse(tmp_path, model, write_spec(tmp_path / "spec.toml", model, output={"output": "years"}))
    assert {path: path.read_bytes() for path in (tmp_path / "bundle").iterdir()} == before


def test_read_import_spec_reads_every_key(tmp_path, make_network, write_spec):
    model = make_network(tmp_path / "theirs.onnx")
    spec = read_import_spec(write_spec(tmp_path / "spec.toml", model, preprocessing={"image_size_px": 500}))
    assert (spec.preprocessing.image_size_px, spec.image.size_px, spec.sex.male) == (500, 32, (1.0,))
