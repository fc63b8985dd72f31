"""A bundle as MLflow loads and serves it."""

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from boneage.tracking.pyfunc import COLUMNS, write_model

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, write_bundle):
    folder = tmp_path_factory.mktemp("model")
    return write_model(folder / "model", write_bundle(folder / "bundle"))


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A file, half black and half white: 50 months for a girl, 60 for a boy."""
    pixels = np.zeros((20, 20), np.uint8)
    pixels[:, 10:] = 255
    path = tmp_path_factory.mktemp("half") / "half.png"
    Image.fromarray(pixels).save(path)
    return path


def test_reads_paths_bytes_and_base64(model_folder, half, tmp_path):
    model, content = mlflow.pyfunc.load_model(str(model_folder)), half.read_bytes()
    images = [str(half), content, base64.b64encode(content).decode(), str(tmp_path / "no.png"), b"no picture", content]
    sexes = ["female", "female", "male", "male", "male", None]
    answers = model.predict(pd.DataFrame({"image": images, "sex": sexes}))
    assert list(answers.columns) == list(COLUMNS)
    assert answers["accepted"].tolist() == [True, True, True, False, False, True]
    assert answers["reasons"].tolist() == ["", "", "", "missing_file", "not_an_image", ""]
    assert answers["bone_age_months"][[0, 1, 2, 5]].tolist() == pytest.approx([50, 50, 60, 55], abs=0.5)
    assert answers["low_months"][:3].tolist() == pytest.approx([38, 38, 51], abs=0.5)
    assert answers[["bone_age_months", "low_months", "high_months"]][3:5].isna().all(axis=None)
    without_sex = model.predict(pd.DataFrame({"image": images[:1]}))
    assert without_sex["bone_age_months"].tolist() == pytest.approx([55], abs=0.5)
    assert model.predict(pd.DataFrame({"image": images[:1], "sex": ["boy"]}))["reasons"].tolist() == ["sex_unknown"]


def test_a_dicom_file_tells_the_sex_and_a_row_must_not_contradict(model_folder, write_dicom):
    pixels = np.full((40, 40), 128, np.uint8)
    path = str(write_dicom(pixels, PatientSex="F"))
    model = mlflow.pyfunc.load_model(str(model_folder))
    answers = model.predict(pd.DataFrame({"image": [path, path], "sex": [None, "male"]}))
    assert answers["reasons"].tolist() == ["", "sex_conflict"]


def test_brings_its_signature_an_example_and_requirements_and_nothing_pickled(model_folder):
    described = mlflow.pyfunc.load_model(str(model_folder)).metadata
    assert described.signature.inputs.input_names() == ["image", "sex", "chronological_age_months"]
    assert described.signature.outputs.input_names() == list(COLUMNS)
    example = described.load_input_example(str(model_folder))
    assert base64.b64decode(example["image"][0]).startswith(b"\x89PNG")
    requirements = (model_folder / "requirements.txt").read_text()
    assert "onnxruntime" in requirements and "boneage==" in requirements
    assert "tensorflow" not in requirements and "extra ==" not in requirements
    assert not [path.name for path in model_folder.rglob("*.pkl")]


def test_loading_it_takes_no_tensorflow(model_folder):
    code = f"import sys, mlflow.pyfunc; mlflow.pyfunc.load_model({str(model_folder)!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert not {"tensorflow", "keras", "torch"} & set(loaded.split())


@pytest.mark.slow
def test_mlflow_serves_it(model_folder, half, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    words = ["models", "serve", "--model-uri", model_folder, "--env-manager", "local", "--port", port]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *map(str, words), "--host", "127.0.0.1", "--workers", "1"],
        # Whatever starts the workers looks for its programs there.
        env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        cwd=tmp_path,
        start_new_session=True,
    )
    try:
        for _ in range(600):
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
                break
            assert process.poll() is None
            time.sleep(0.5)
        image = base64.b64encode(half.read_bytes()).decode()
        rows = [{"image": image, "sex": "male"}, {"image": base64.b64encode(b"no").decode(), "sex": "male"}]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"dataframe_records": rows}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            accepted, refused = json.load(answer)["predictions"]
    finally:
        os.killpg(process.pid, 15)
        process.wait()
    assert accepted["bone_age_months"] == pytest.approx(60, abs=0.5)
    assert accepted["accepted"] is True
    assert refused["accepted"] is False
    assert refused["reasons"]
