"""Clients that send nothing, or too slowly: real sockets against the server as the commands run it."""

import contextlib
import resource
import socket
import threading
import time

import pytest

from boneage.cli.serving import _listen
from boneage.serve.app import create_app
from boneage.web import connections
from boneage.web.connections import make_server

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = (
    b"POST /api/v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
)
LOGIN = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nContent-Length: 4000\r\n\r\ntok"


@pytest.fixture(scope="module")
def port(reader):
    with contextlib.closing(_listen("127.0.0.1", 0)) as listener:
        server = make_server(create_app(reader))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def connect(port):
    """A function that opens a connection and sends something."""
    opened = []

    def start(sent=b""):
        opened.append(socket.create_connection(("127.0.0.1", port), timeout=30))
        opened[-1].sendall(sent)
        return opened[-1]

    yield start
    for connection in opened:
        connection.close()


def ask(connect):
    return connect(GET).recv(4096)


def is_closed(connection):
    """Whether the server has closed a connection, at once or in time."""
    try:
        while received := connection.recv(4096):
            assert b" 200 " not in received
        return True
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHo", POST, LOGIN], ids=["nothing", "header", "body", "login"]
)
def test_half_open_connections_shut_nobody_out(sent, connect):
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    for _ in range(min(2 * connections.MAX_CONNECTIONS, (soft - 200) // 2)):
        connect(sent)
    began = time.monotonic()
    assert b"200 OK" in ask(connect)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHo", POST, LOGIN, GET + b"GET /"])
def test_a_request_that_does_not_arrive_is_given_up(sent, connect, monkeypatch):
    monkeypatch.setattr(connections, "GRACE_SECONDS", 0.5)
    connection = connect(sent)
    if sent.startswith(GET):
        assert b"200 OK" in connection.recv(4096)
    connection.settimeout(10)
    assert is_closed(connection)
    assert b"200 OK" in ask(connect)


def test_a_request_that_drips_is_given_up(connect, monkeypatch):
    monkeypatch.setattr(connections, "GRACE_SECONDS", 0.5)
    connection, began = connect(LOGIN), time.monotonic()
    with pytest.raises(OSError):
        while time.monotonic() - began < 20:
            connection.sendall(b"x")
            time.sleep(0.05)
    assert time.monotonic() - began < 10


def test_a_slow_request_that_makes_progress_is_answered(connect, monkeypatch):
    monkeypatch.setattr(connections, "GRACE_SECONDS", 0.5)
    body = b"token=" + b"x" * 3000
    connection = connect(LOGIN.partition(b"Content-Length")[0] + b"Content-Length: %d\r\n\r\n" % len(body))
    for start in range(0, len(body), 600):
        time.sleep(0.25)
        connection.sendall(body[start : start + 600])
    assert b"403 Forbidden" in connection.recv(4096)


def test_an_open_connection_takes_requests_one_after_the_other(connect, monkeypatch):
    monkeypatch.setattr(connections, "GRACE_SECONDS", 0.3)
    connection = connect()
    for _ in range(3):
        connection.sendall(GET)
        received = b""
        while not received.endswith(b"}"):
            received += connection.recv(4096)
        assert b"200 OK" in received
        time.sleep(0.4)
