"""The application over bundles with known answers."""

import io
import threading
import time

import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from boneage.web.app import create_app
from boneage.web.command import _listen
from preprocessing.synthetic import draw_radiograph


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
            "/", files=[("files", each) for each in files], data=fields, headers={"Origin": "http://127.0.0.1:8000"}
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
