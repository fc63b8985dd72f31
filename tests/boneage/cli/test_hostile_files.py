"""Bundles, record folders and settings made by strangers: whatever they hold, one line tells what is wrong."""

import hashlib
import json
import shutil
import sys

import onnx
import pytest
from onnx import TensorProto

from boneage.bundles.metadata import BANDS
from boneage.cli.main import main
from boneage.configuration.build import ConfigError
from boneage.configuration.experiment import load_experiment
from boneage.evaluation.metrics import AGE_BANDS_YEARS
from boneage.registry.digest import metadata_digest
from boneage.tfrecords.schema import SEXES

DEEP = 100_000


@pytest.fixture
def run(monkeypatch, capfd):
    """A function that runs the command line and gives its one line on standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["boneage", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capfd.readouterr()
        assert (caught.value.code, out) == (1, ""), err
        assert err.startswith("boneage: ") and err.count("\n") == 1 and len(err) < 1000, err
        return err

    return run


@pytest.fixture
def bundle(reader, tmp_path):
    """A bundle to be changed."""
    return shutil.copytree(reader.age_bundle.folder, tmp_path / "bundle")


def change(bundle, **values):
    """Change metadata as a stranger would, with a digest that matches."""
    path = bundle / "metadata.json"
    metadata = {**json.loads(path.read_text()), **values}
    metadata.pop("metadata_digest")
    path.write_text(json.dumps({**metadata, "metadata_digest": metadata_digest(metadata)}))


@pytest.fixture
def predict(run, bundle, half, tmp_path):
    (tmp_path / "1.png").write_bytes(half)
    return lambda: run("predict", tmp_path / "1.png", "--sex", "male", "--bundle", bundle)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "7",
        "[" * DEEP,
        '{"a":' * DEEP,
        '{"bundle_version": NaN}',
        '{"bundle_version": 1e999}',
        "9" * 5000,
        "\x00",
    ],
)
def test_predict_with_metadata_that_are_no_object_is_one_line(text, predict, bundle):
    (bundle / "metadata.json").write_text(text)
    assert "metadata.json: not valid JSON" in predict()


def test_predict_with_metadata_that_are_no_text_is_one_line(predict, bundle):
    (bundle / "metadata.json").write_bytes(b"\xff\xfe{}")
    assert "not valid JSON" in predict()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bundle_version", [[1]]),
        ("task", "foot"),
        ("task", ["age"]),
        ("input_size", 10**9),
        ("input_size", -1),
        ("input_size", "32"),
        ("input_size", 33),
        ("use_sex", "yes"),
        ("tta", {}),
        ("tta", "hundred"),
        ("preprocessing", []),
        ("preprocessing", {"image_size_px": 10**12}),
        ("preprocessing", {"x" * 5000: 1}),
        ("fingerprint", 7),
        ("fingerprint", "0" * 16),
        ("sha256", []),
        ("sha256", {"model.onnx": 7}),
        ("sha256", {}),
        ("interval", []),
        ("interval", {}),
        ("interval", {"half_width_months": {"female": {"0-5": 1.0}, "male": {}}}),
        ("interval", {"half_width_months": dict.fromkeys(SEXES, dict.fromkeys(BANDS, "wide"))}),
        ("interval", {"half_width_months": dict.fromkeys(SEXES, dict.fromkeys(BANDS, 9.0)), "coverage_share": 7}),
        ("interval", {"half_width_months": dict.fromkeys(SEXES, dict.fromkeys(BANDS, 9.0)), "youngest": {"male": 1}}),
        ("calibration", {"female": [1, 0]}),
        ("calibration", {"female": ["a", 0], "male": [1, 0]}),
        ("validation_error", "small"),
        ("network", {"a": 1}),
    ],
)
def test_predict_with_hostile_metadata_is_one_line(name, value, predict, bundle):
    change(bundle, **{name: value})
    assert "bundle" in predict()


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/passwd", "none"])
def test_predict_with_external_data_is_one_line(location, predict, bundle):
    (bundle / "weights.bin").write_bytes(bytes(64))
    model = onnx.load(bundle / "model.onnx")
    for tensor in model.graph.initializer:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("length", f"{len(tensor.raw_data)}")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        tensor.ClearField("raw_data")
    exchange(bundle, model.SerializeToString())
    assert "without external data" in predict()


@pytest.mark.parametrize("data", [b"", b"no network", bytes(1000)])
def test_predict_with_a_damaged_network_is_one_line(data, predict, bundle):
    exchange(bundle, data)
    assert "ONNX Runtime cannot load it" in predict()


def test_predict_with_a_network_of_other_inputs_is_one_line(predict, bundle):
    model = onnx.load(bundle / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 64
    exchange(bundle, model.SerializeToString())
    assert "needs an input `image`" in predict()


def exchange(bundle, data):
    (bundle / "model.onnx").write_bytes(data)
    change(bundle, sha256={"model.onnx": hashlib.sha256(data).hexdigest()})


@pytest.fixture
def records(prepared, tmp_path):
    """A record folder to be changed."""
    return shutil.copytree(prepared.folder, tmp_path / "records")


@pytest.mark.parametrize("text", ["", "[]", "[" * DEEP, '{"schema_version": NaN}', "9" * 5000])
def test_records_with_an_info_that_is_no_object_is_one_line(text, run, records):
    (records / "dataset_info.json").write_text(text)
    assert "dataset_info.json: not readable as JSON" in run("records", records)


@pytest.mark.parametrize(
    "change_info",
    [
        lambda info: info.update(schema_version=[7] * 500),
        lambda info: info.update(splits=[]),
        lambda info: info.update(splits={"train": 7}),
        lambda info: info.update(splits={"other": info["splits"]["train"]}),
        lambda info: info.update(preprocessing="none"),
        lambda info: info.pop("fingerprint"),
        lambda info: info["splits"]["train"].update(num_records=-1),
        lambda info: info["splits"]["train"].update(num_records=1e300),
        lambda info: info["splits"]["train"]["shards"].append(None),
        lambda info: info["splits"]["train"]["shards"][0].update(file="../../secret"),
        lambda info: info["splits"]["train"]["shards"][0].update(file="/etc/passwd"),
        lambda info: info["splits"]["train"]["shards"][0].pop("sha256"),
    ],
)
@pytest.mark.parametrize("words", [[], ["--verify"]])
def test_records_with_a_hostile_info_is_one_line(change_info, words, run, records):
    path = records / "dataset_info.json"
    info = json.loads(path.read_text())
    change_info(info)
    path.write_text(json.dumps(info))
    assert "prepare the records again" in run("records", records, *words)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * DEEP,
        "a = " + "{b = " * DEEP,
        "[a" + ".a" * DEEP + "]",
        "train = 1",
        "[train]\nepochs = " + "9" * 5000,
        "[train]\nlearning_rate = nan",
        "[train]\nlearning_rate = inf",
        "[augment]\nrotation_degrees = -inf",
        "[train]\n" + "x" * 5000 + " = 1",
    ],
)
def test_load_experiment_of_hostile_settings_is_one_line(text, tmp_path):
    (tmp_path / "hostile.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_experiment(tmp_path / "hostile.toml")
    assert "hostile.toml" in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1500


@pytest.mark.parametrize("value", ["[" * DEEP, "9" * 5000, "1e999", "nan", "inf"])
def test_load_experiment_with_a_hostile_override_is_one_line(value):
    with pytest.raises(ConfigError, match="learning_rate") as caught:
        load_experiment("rsna_lite0", overrides=[f"learning_rate={value}"])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1500


def test_the_bands_of_an_interval_are_those_that_are_measured():
    assert tuple(AGE_BANDS_YEARS) == BANDS
