"""Drawn radiographs, records of them, and bundles with known answers, made without TensorFlow."""

import dataclasses
import hashlib
import io
import runpy
import shutil
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from boneage.base.files import write_json
from boneage.bundles.bundle import BUNDLE_VERSION
from boneage.cli.serving import _listen
from boneage.inference.loading import load
from boneage.preprocessing.config import PreprocessingConfig, fingerprint
from boneage.preprocessing.jobs.prepare import PreparationResult, prepare
from boneage.preprocessing.synthetic import draw_radiograph, write_dataset
from boneage.registry.digest import metadata_digest
from boneage.review.desk import Desk
from boneage.serve.app import create_app

CHROMIUM = shutil.which("chromium")
BANDS = ("0-5", "5-10", "10-13", "13-16", "16+")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    """A folder of 40 drawn radiographs, laid out like the RSNA download."""
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(folder, num_images=40, seed=3, size_px=(80, 64))
    return folder


@pytest.fixture(scope="session")
def prepared(drawn, tmp_path_factory) -> PreparationResult:
    """Records of the drawn radiographs: 32 to train on, 4 each to validate and to test."""
    out = tmp_path_factory.mktemp("prepared") / "records"
    return prepare(
        drawn, out=out, split="random", config=PreprocessingConfig(segmenter="none", image_size_px=32), workers=1
    )


@pytest.fixture(scope="session")
def write_bundle():
    """A function that writes a bundle with known answers, without TensorFlow."""

    def write(folder, *, segmenter="none", scale=100.0, **metadata):
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
            "tta": "none",
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
        write_json(folder / "metadata.json", {**described, "metadata_digest": metadata_digest(described)})
        return folder

    return write


@pytest.fixture(scope="session")
def reader(tmp_path_factory, write_bundle):
    """Reads whole frames: 100 x mean grey, 10 more for boys."""
    return load(write_bundle(tmp_path_factory.mktemp("known") / "frames"))


@pytest.fixture(scope="session")
def hand_reader(tmp_path_factory, write_bundle):
    """Finds the hand first, as the packaged model does."""
    return load(write_bundle(tmp_path_factory.mktemp("known") / "hands", segmenter="hand_sam", scale=500.0))


@pytest.fixture(scope="session")
def left_hand():
    """Pixels of a drawn left hand on a film of its own: its thumb is on the right."""
    return draw_radiograph(120, sex="female", seed=5, size_px=(400, 320), angle_degrees=0.0).pixels


@pytest.fixture(scope="session")
def both_hands(left_hand):
    """Pixels of a film of both hands palms down: the thumbs point towards each other."""
    return np.hstack([left_hand, left_hand[:, ::-1]])


@pytest.fixture(scope="session")
def write_hand(write_dicom):
    """A function that writes a drawn hand as a DICOM file of a study, with all that tells who the child is."""

    def write(*, seed=7, **elements):
        described = {
            "SOPInstanceUID": f"1.2.3.4.{seed}",
            "SeriesInstanceUID": "1.2.3.4.5",
            "StudyInstanceUID": "1.2.3.4",
            "StudyDate": "20200303",
            "StudyTime": "101112",
            "StudyID": "17",
            "AccessionNumber": "A-815",
            "ReferringPhysicianName": "Arzt^Anna",
            "PatientName": "Müller^Zoë",
            "PatientID": "PATIENT-4711",
            "PatientBirthDate": "20100203",
            "PatientSex": "F",
            "SpecificCharacterSet": "ISO_IR 100",
            "ImageLaterality": "L",
            "BurnedInAnnotation": "NO",
        }
        pixels = draw_radiograph(120, sex="female", seed=seed, size_px=(320, 256)).pixels
        return write_dicom(pixels, **(described | elements))

    return write


@pytest.fixture(autouse=True)
def leave_logging_alone(monkeypatch):
    """Keep Uvicorn from setting logging up: that closes the handlers there are, and absl's, TensorFlow's, takes
    pytest's standard error with it."""
    monkeypatch.setattr("uvicorn.config.Config.configure_logging", lambda config: None)


@pytest.fixture(scope="session")
def encode_png():
    """A function that makes a PNG of pixels."""

    def encode(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return encode


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
            "/", files=[("files", file) for file in files], data=fields, headers={"Origin": "http://127.0.0.1:8000"}
        )
        assert sent.status_code == 303, sent.text
        return client.get("/", headers={"Accept": "text/html"}).text

    return send


@pytest.fixture(scope="module")
def live():
    """A function that serves an application on a free port and gives its address."""
    running = []

    def start(app):
        listener = _listen("127.0.0.1", 0)
        config = uvicorn.Config(app, log_config=None, log_level="warning", access_log=False, ws="none")
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


@pytest.fixture(scope="module")
def browser():
    """One browser for a module, which Playwright's loop keeps from using asyncio in the same thread."""
    if CHROMIUM is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def drawn_desk(tmp_path_factory):
    """The desk of twelve drawings, of which one shows two hands and two are cut off."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(12):
        pixels = draw_radiograph(60 + 10 * number, sex="male", seed=number, size_px=(400, 320)).pixels
        if number == 4:
            pixels = np.hstack([pixels, pixels[:, ::-1]])
        if number in (1, 9):
            pixels = pixels[:, : 200 if number == 1 else 170]
        if number == 3:
            pixels = cv2.copyMakeBorder(pixels, 60, 0, 60, 0, cv2.BORDER_CONSTANT, value=255)
        if number == 7:
            pixels = np.ascontiguousarray(np.rot90(pixels))
        cv2.imwrite(str(folder / f"{1400 + number}.png"), pixels)
    labels = "".join(f"{1400 + number},100,True\n" for number in range(12))
    (folder / "labels.csv").write_text(f"id,boneage,male\n{labels}")
    config = PreprocessingConfig(image_size_px=128)
    out = tmp_path_factory.mktemp("records") / "records"
    made = prepare(folder, out=out, table=folder / "labels.csv", split="random", config=config, workers=1)
    return Desk(made.folder, source=folder)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty stand-in of the Hugging Face hub, and an empty cache."""
    server = runpy.run_path(str(Path(__file__).with_name("hub_server.py")))["HubServer"]()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("BONEAGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.stop()
