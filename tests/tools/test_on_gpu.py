"""The way to a GPU and back: what is taken along, how it is trained by torch, and what comes back."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.jobs.prepare import prepare
from boneage.preprocessing.synthetic import write_dataset

FOLDER = Path(__file__).parents[2] / "tools"


@pytest.fixture
def on_gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("on_gpu", FOLDER / "on_gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("torch_network", None)


def run(module, *arguments):
    result = CliRunner().invoke(module.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def read_steps(task):
    with np.load(Path(__file__).with_name(f"keras_steps_{task}.npz"), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def choose(steps, prefix):
    return {name.removeprefix(prefix): array for name, array in steps.items() if name.startswith(prefix)}


def check_weights(found, *, before, after):
    assert found.keys() == after.keys()
    for name, array in after.items():
        # A batch normalisation takes away what this shift adds in front of its convolution of 1 x 1: the gradient is
        # nothing but rounding, which Adam scales to full steps. Single weights elsewhere have such gradients too.
        if not name.endswith("_project_norm/beta"):
            update, error = (np.linalg.norm(array - start) for start in (before[name], found[name]))
            assert update > 5e-4 and error < 0.05 * update, f"{name}: {error} off an update of {update}"


@pytest.mark.parametrize("task", ["age", "sex"])
def test_keras_makes_the_steps_that_torch_is_held_to(task):
    pytest.importorskip("tensorflow", reason="needs the extra train")
    path = Path(__file__).with_name("keras_steps.py")
    spec = importlib.util.spec_from_file_location("keras_steps", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    expected, found = read_steps(task), module.compute_steps(task)
    assert found.keys() == expected.keys()
    about, known = (json.loads(str(steps.pop("about"))) for steps in (found, expected))
    assert (about["layers"], about["task"]) == (known["layers"], known["task"])
    for name, array in expected.items():
        if not name.startswith("after/"):
            np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-4, err_msg=name)
    check_weights(choose(found, "after/"), before=choose(expected, "before/"), after=choose(expected, "after/"))


@pytest.mark.parametrize("task", ["age", "sex"])
def test_torch_makes_the_same_steps_as_keras(on_gpu, task):
    torch = pytest.importorskip("torch", reason="needs torch: run `make test-sam`")
    from torch_network import TorchNetwork

    steps = read_steps(task)
    about = json.loads(str(steps["about"]))
    before, after = choose(steps, "before/"), choose(steps, "after/")
    # Copied: torch trains in the memory of the arrays that it is given.
    network = TorchNetwork(about["layers"], {name: array.copy() for name, array in before.items()}).train()
    rates = about["learning_rates"]
    optimizer = on_gpu.build_optimizer(network, learning_rate=rates[0], weight_decay=about["weight_decay"])
    losses = []
    for images, male, truth, rate in zip(steps["images"], steps["male"], steps["truth"], rates, strict=True):
        batch = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        predicted = network(batch, torch.from_numpy(male))
        loss = on_gpu.apply_gradients(
            optimizer, predicted, torch.from_numpy(truth), task=about["task"], learning_rate=rate
        )
        losses.append(float(loss))
    np.testing.assert_allclose(losses, steps["losses"], rtol=1e-4)
    check_weights(network.to_keras(), before=before, after=after)


@pytest.fixture
def layers():
    """A convolution of every kind that EfficientNet-Lite0 has, and the head with the sex."""
    norm = {"epsilon": 1e-3, "momentum": 0.9}

    def layer(name, kind, inputs, **options):
        return {"name": name, "kind": kind, "inputs": inputs, "options": options}

    return [
        layer("three", "Concatenate", ["image"] * 3),
        layer("scaled", "Rescaling", ["three"], scale=2.0, offset=-1.0),
        layer("stem", "Conv2D", ["scaled"], strides=[2, 2], kernel_size=[3, 3]),
        layer("norm", "BatchNormalization", ["stem"], **norm),
        layer("relu", "ReLU", ["norm"], max_value=6.0),
        layer("each", "DepthwiseConv2D", ["relu"], strides=[1, 1], kernel_size=[3, 3]),
        layer("sum", "Add", ["each", "relu"]),
        layer("pool", "GlobalAveragePooling2D", ["sum"]),
        layer("sex", "Dense", ["male"], activation="relu"),
        layer("both", "Concatenate", ["pool", "sex"]),
        layer("drop", "Dropout", ["both"], rate=0.2),
        layer("last", "Dense", ["drop"], activation="linear"),
        layer("months", "Rescaling", ["last"], scale=40.0, offset=120.0),
    ]


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    shapes = {"stem/kernel": (3, 3, 3, 4), "each/kernel": (3, 3, 4, 1), "sex/kernel": (1, 2), "sex/bias": (2,)}
    shapes |= {"last/kernel": (6, 1), "last/bias": (1,)}
    norm = {f"norm/{name}": np.ones(4, np.float32) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    return {**norm, **{name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}}


def test_trains_by_the_clock_and_gives_weights_back(on_gpu, layers, weights, tmp_path):
    pytest.importorskip("torch", reason="needs torch: run `make test-sam`")
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(1)
    crops = [cv2.imencode(".webp", rng.integers(0, 256, (16, 16), np.uint8))[1] for _ in range(40)]
    columns = {"male": rng.integers(0, 2, (40, 1)).astype(np.float32), "months": rng.uniform(0, 228, (40, 1))}
    np.savez(
        tmp_path / "crops.npz",
        ids=np.array([str(number) for number in range(40)]),
        lengths=np.array([len(crop) for crop in crops]),
        crops=np.concatenate(crops),
        **{name: column.astype(np.float32) for name, column in columns.items()},
    )
    ranges = ("rotation_degrees", "zoom_share", "narrow_share", "shift_share", "flip_share", "gamma_share")
    augment = dict.fromkeys((*ranges, "contrast_share", "brightness_share", "noise_share"), 0.1)
    about = {"task": "age", "input_size": 16, "weight_decay": 0.01, "augment": augment, "layers": layers}
    np.savez(tmp_path / "tiny.npz", about=np.array(json.dumps(about)), **weights)
    run(on_gpu, "fit", "tiny", "--folder", tmp_path, "--out", tmp_path / "fitted", "--minutes", 0.02, "--batch-size", 8)
    with np.load(tmp_path / "fitted" / "tiny.npz") as found:
        history = json.loads(str(found["about"]))["history"]
        assert history[-1]["steps"] > 1 and history[-1]["held_error"] > 0
        assert set(found.files) == {"about", *weights}
        assert all(found[name].shape == weight.shape for name, weight in weights.items())
        assert not np.allclose(found["stem/kernel"], weights["stem/kernel"], atol=2e-3)
        assert not np.allclose(found["norm/moving_mean"], weights["norm/moving_mean"])


def test_torch_has_keras_kernels_the_other_way_round_and_pads_as_it_does(on_gpu, layers, weights):
    torch = pytest.importorskip("torch", reason="needs torch: run `make test-sam`")
    from torch_network import TorchNetwork

    network = TorchNetwork(layers, weights).eval()
    for name, array in network.to_keras().items():
        np.testing.assert_array_equal(array, weights[name])
    image = np.random.default_rng(2).random((1, 1, 5, 5), np.float32)
    with torch.no_grad():
        found = float(network(torch.from_numpy(image), torch.ones(1, 1)))
    # By hand: of five pixels at a stride of two there are three, of which the first begins one pixel outside.
    scaled = np.pad(image[0, 0] * 2 - 1, 1)
    kernel = weights["stem/kernel"].sum(axis=2)
    stem = np.zeros((3, 3, 4))
    for row, column in np.ndindex(3, 3):
        stem[row, column] = np.einsum("rc,rco->o", scaled[2 * row : 2 * row + 3, 2 * column : 2 * column + 3], kernel)
    relu = np.clip((stem - 1) / np.sqrt(1.001) + 1, 0, 6)
    around, filtered = np.pad(relu, ((1, 1), (1, 1), (0, 0))), np.zeros_like(relu)
    for row, column in np.ndindex(3, 3):
        filtered[row, column] = (around[row : row + 3, column : column + 3] * weights["each/kernel"][..., 0]).sum(
            (0, 1)
        )
    sex = np.maximum(weights["sex/kernel"][0] + weights["sex/bias"], 0)
    features = np.concatenate([(filtered + relu).mean((0, 1)), sex])
    expected = (features @ weights["last/kernel"] + weights["last/bias"])[0] * 40 + 120
    assert found == pytest.approx(expected, rel=1e-4)


def test_what_is_packed_comes_back_as_a_file_that_init_takes(on_gpu, tmp_path):
    pytest.importorskip("tensorflow", reason="needs the extra train")
    from boneage.configuration.experiment import load_experiment
    from boneage.models.build import build_network
    from boneage.training.initialise import initialise

    write_dataset(tmp_path / "drawn", num_images=8, seed=5, size_px=(80, 64))
    config = PreprocessingConfig(segmenter="none")
    records = prepare(tmp_path / "drawn", out=tmp_path / "records", config=config, workers=1).folder
    experiment = tmp_path / "tiny.toml"
    experiment.write_text(
        '[train]\nnetwork = "efficientnet_lite0"\ninput_size = 32\ninit = "imagenet"\ndropout = 0.1\n'
    )
    run(on_gpu, "pack", experiment, "--data", records, "--out", tmp_path / "packed")
    images, male, months, held = on_gpu._read_crops(tmp_path / "packed")
    assert images.shape[1] == 1 and images.dtype == np.uint8 and len(images) == len(male) == len(months) == len(held)
    with np.load(tmp_path / "packed" / "tiny.npz") as packed:
        layers = json.loads(str(packed["about"]))["layers"]
    names = {"image", "male"}
    for layer in layers:
        assert set(layer["inputs"]) <= names, layer
        names.add(layer["name"])
    out = tmp_path / "tiny.weights.h5"
    run(on_gpu, "unpack", tmp_path / "packed" / "tiny.npz", experiment, "--data", records, "--out", out)
    trained = load_experiment(experiment).train
    first, second = (initialise(build_network(trained), init) for init in ("imagenet", out))
    backbone = trained.network
    for one, other in zip(
        first.get_layer(backbone).get_weights(), second.get_layer(backbone).get_weights(), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)  # kernels travel in half precision
