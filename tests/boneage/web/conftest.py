"""Bundles with known answers, made without TensorFlow, the application over them, and a browser to look at it."""

import dataclasses
import hashlib
import io
import shutil
import threading
import time

import numpy as np
import onnx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from boneage.bundle import BUNDLE_VERSION, seal
from boneage.reader import load_reader
from boneage.web.app import create_app
from boneage.web.command import _listen
from preprocessing.pipeline import PreprocessingConfig, fingerprint
from preprocessing.synthetic import draw_radiograph
from tfrecords.write import write_json

CHROMIUM = shutil.which("chromium")
BANDS = ("0-5", "5-10", "10-13", "13-16", "16+")


def write_bundle(folder, *, segmenter="none", scale=100.0, **metadata):
    """A bundle that answers `scale` x mean grey, and 10 more for boys."""
    folder.mkdir(parents=True)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 32, 32, 1])
    male = helper.make_tensor_value_info("male", TensorProto.FLOAT, ["batch", 1])
    months = helper.make_tensor_value_info("months", TensorProto.FLOAT, ["batch", 1])
    constants = {
        "axes": np.int64([1, 2, 3]),
        "one": np.int64([1]),
        "scale": np.float32(scale / 32**2),
        "boys": np.float32(10),
    }
    nodes = [
        helper.make_node("ReduceSum", ["image", "axes"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "scale"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "one"], ["column"]),
        helper.make_node("Mul", ["male", "boys"], ["more"]),
        helper.make_node("Add", ["column", "more"], ["months"]),
    ]
    graph = helper.make_graph(
        nodes,
        "known",
        [image, male],
        [months],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    config = PreprocessingConfig(segmenter=segmenter, image_size_px=32 if segmenter == "none" else 256)
    described = {
        "bundle_version": BUNDLE_VERSION,
        "task": "age",
        "network": "known",
        "input_size": 32,
        "use_sex": True,
        "views": "one",
        "validation_error": 7.25,
        "preprocessing": dataclasses.asdict(config),
        "fingerprint": fingerprint(config),
        "sha256": {"model.onnx": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()},
        "interval": {
            "measured_coverage_share": 0.9,
            "half_width_months": {"female": dict.fromkeys(BANDS, 12.0), "male": dict.fromkeys(BANDS, 9.0)},
        },
        **metadata,
    }
    write_json(folder / "metadata.json", {**described, "seal": seal(described)})
    return folder


@pytest.fixture(scope="session")
def encode_png():
    """A function that makes a PNG of pixels."""

    def encode(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return encode


@pytest.fixture(scope="session")
def reader(tmp_path_factory):
    """Reads whole frames: 100 x mean grey, 10 more for boys."""
    return load_reader(write_bundle(tmp_path_factory.mktemp("known") / "frames"))


@pytest.fixture(scope="session")
def hand_reader(tmp_path_factory):
    """Finds the hand first, as the packaged model does."""
    return load_reader(write_bundle(tmp_path_factory.mktemp("known") / "hands", segmenter="hand_sam", scale=500.0))


@pytest.fixture(scope="session")
def half(encode_png):
    """A PNG, half black and half white: 50 months for a girl, 60 for a boy."""
    pixels = np.zeros((20, 20), np.uint8)
    pixels[:, 10:] = 255
    return encode_png(pixels)


@pytest.fixture(scope="session")
def drawn_hand(encode_png):
    return encode_png(draw_radiograph(120, sex="female", seed=7).pixels)


@pytest.fixture
def serve():
    """A function that starts an application and gives a client of it, as one on the same machine."""
    clients = []

    def start(reader, **options):
        client = TestClient(create_app(reader, **options), base_url="http://127.0.0.1:8000", follow_redirects=False)
        client.__enter__()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve, reader):
    return serve(reader)


@pytest.fixture
def upload():
    """A function that sends files by the page's form, as a browser does, and gives the page that comes of it."""

    def send(client, files, **fields):
        sent = client.post(
            "/", files=[("files", each) for each in files], data=fields, headers={"Origin": "http://127.0.0.1:8000"}
        )
        assert sent.status_code == 303, sent.text
        return client.get("/", headers={"Accept": "text/html"}).text

    return send


@pytest.fixture
def live():
    """A function that serves an application on a free port and gives its address."""
    running = []

    def start(app):
        listener = _listen("127.0.0.1", 0)
        config = uvicorn.Config(app, log_level="warning", access_log=False, ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        running.append((server, thread, listener))
        while not server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, thread, listener in running:
        server.should_exit = True
        thread.join(10)
        listener.close()


@pytest.fixture
def browser():
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()
