"""Bundles with known answers, and the application over them."""

import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from boneage.reader import load_reader
from boneage.web.app import create_app
from preprocessing.synthetic import draw_radiograph


@pytest.fixture(scope="session")
def encode_png():
    """A function that makes a PNG of pixels."""

    def encode(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return encode


@pytest.fixture(scope="session")
def reader(tmp_path_factory, write_bundle):
    """Reads whole frames: 100 x mean grey, 10 more for boys."""
    return load_reader(write_bundle(tmp_path_factory.mktemp("known") / "frames"))


@pytest.fixture(scope="session")
def hand_reader(tmp_path_factory, write_bundle):
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
