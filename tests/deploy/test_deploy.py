"""The deployment files: linters accept them, what they ask programs for exists, and the proxy and the service agree."""

import contextlib
import inspect
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import typer.main
import uvicorn.config
import yaml
from mlflow.cli import server as mlflow_server
from PIL import Image

from boneage.cli.main import app
from boneage.preprocessing.synthetic import draw_radiograph

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy"
CONTAINERFILE, COMPOSE, CADDYFILE, UNIT = (
    FOLDER / name for name in ("Containerfile", "compose.yaml", "Caddyfile", "boneage.service")
)
HOSTS = {"BONEAGE_HOST": "boneage.hospital.example", "MLFLOW_HOST": "mlflow.hospital.example"}
TOKEN = "a-secret-of-this-test"


def call(*words, **options):
    """Run a program that judges a file; its words are shown where it refuses the file."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}")
    run = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, **options)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


@pytest.fixture
def services():
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]


@pytest.fixture
def caddyfile(tmp_path):
    """A copy of the Caddyfile, with a certificate of this test and one user of MLflow, `anna`."""
    names = {name: tmp_path / name for name in ("tls_certificate", "tls_key", "mlflow_users")}
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names_of_host = ["-addext", "subjectAltName=DNS:localhost"]
    call("openssl", *words, *names_of_host, "-keyout", names["tls_key"], "-out", names["tls_certificate"])
    hashed = call("caddy", "hash-password", "--plaintext", "a-password").strip()
    names["mlflow_users"].write_text(f"anna {hashed}\n", encoding="utf-8")
    text = re.sub(r"/run/secrets/(\w+)", lambda match: str(names[match[1]]), CADDYFILE.read_text(encoding="utf-8"))
    copy = tmp_path / "Caddyfile"
    copy.write_text(text, encoding="utf-8")
    return copy


def find_commands():
    """Return the words of every command of `boneage` and of `mlflow` that the files run."""
    containers = re.findall(r'ENTRYPOINT \["[^"]+/(\w+)"\]\nCMD \[(.*)\]', CONTAINERFILE.read_text(encoding="utf-8"))
    lines = [f"{program} {words.replace(',', ' ')}" for program, words in containers]
    for text in (COMPOSE.read_text(encoding="utf-8"), UNIT.read_text(encoding="utf-8")):
        lines += re.findall(r"exec /opt/\w+/bin/(.+?)'?$", text.replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line) for line in lines]


def test_the_containerfile_passes_its_linter():
    hadolint = Path(sys.executable).with_name("hadolint")
    call(hadolint if hadolint.exists() else "hadolint", CONTAINERFILE)


def test_the_containerfile_copies_what_there_is():
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert {"boneage", "preprocessing", "tfrecords", "experiments", "constraints.txt"} <= names
    assert all((ROOT / name).exists() for name in names)


def test_the_images_run_as_a_user_without_rights():
    stages = CONTAINERFILE.read_text(encoding="utf-8").split("\nFROM ")
    for stage in stages:
        assert ("ENTRYPOINT" in stage) == ("\nUSER 10001\n" in stage)


def test_the_unit_is_valid_and_hardened():
    call("systemd-analyze", "verify", UNIT)
    told = call("systemd-analyze", "security", "--offline=true", "--threshold=20", UNIT)
    assert "exposure level" in told


def test_the_compose_file_is_valid():
    folder = FOLDER
    told = call("docker-compose", "--file", COMPOSE, "config", "--quiet", cwd=folder, env=os.environ | HOSTS)
    assert told == ""


def test_the_proxy_alone_is_reached_from_outside(services):
    networks = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["networks"]
    outside = {name for name, options in networks.items() if not options.get("internal")}
    assert {name for name, service in services.items() if "ports" in service} == {"proxy"}
    assert {name for name, service in services.items() if outside & set(service["networks"])} == {"proxy"}


def test_secrets_are_files_that_the_page_makes(services):
    secrets = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["secrets"]
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    used = {name for service in services.values() for name in service["secrets"]}
    used |= set(re.findall(r"/run/secrets/(\w+)", CADDYFILE.read_text(encoding="utf-8")))
    assert used == set(secrets)
    for name, secret in secrets.items():
        assert secret == {"file": f"./secrets/{name}"}
        assert f"secrets/{name}" in page
    for service in services.values():
        for variable, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|TOKEN|KEY", variable) or value.startswith("/run/secrets/")


def test_every_variable_is_explained(services):
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    texts = COMPOSE.read_text(encoding="utf-8") + CADDYFILE.read_text(encoding="utf-8")
    variables = set(re.findall(r"\$\{(\w+):\?|\{\$(\w+)", texts))
    assert variables
    assert all("".join(names) in page for names in variables)


def test_every_option_exists():
    commands, boneage = find_commands(), typer.main.get_command(app)
    assert len([words for words in commands if words[0] == "boneage"]) == 3
    assert len([words for words in commands if words[0] == "mlflow"]) == 2
    for program, name, *options in commands:
        command = boneage.commands[name] if program == "boneage" else mlflow_server
        assert command.name == name
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in options if word.startswith("--")} <= known
        if program == "boneage":
            command.make_context(name, options)


def test_every_variable_of_the_service_exists():
    token = next(option for option in typer.main.get_command(app).commands["serve"].params if option.name == "token")
    assert token.envvar == "BONEAGE_TOKEN"
    assert '"FORWARDED_ALLOW_IPS"' in inspect.getsource(uvicorn.config)
    for text in (COMPOSE.read_text(encoding="utf-8"), UNIT.read_text(encoding="utf-8")):
        assert 'BONEAGE_TOKEN="$$(cat ' in text


def test_the_proxy_configuration_is_valid(caddyfile):
    env = os.environ | HOSTS
    told = call("caddy", "validate", "--adapter", "caddyfile", "--config", caddyfile, env=env)
    assert "Valid configuration" in told


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def running(words, url, **options):
    """Run a server until the block ends; wait until it answers."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    process = subprocess.Popen([*map(str, words)], **silent, **options)
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(url, verify=False)
                break
            assert process.poll() is None, f"{words[0]} ended"
            time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # MLflow's own process does not end alone
        process.wait(60)


@pytest.mark.slow
def test_mlflow_answers_its_own_page_alone(services, tmp_path):
    """The line of the compose file, over SQLite: the pages of MLflow ask by POST, with an origin."""
    port, host = free_port(), HOSTS["MLFLOW_HOST"]
    (tmp_path / "database_password").write_text("a-password", encoding="utf-8")
    line = services["mlflow"]["entrypoint"][-1].replace("$$", "$").replace("--port 5000", f"--port {port} --workers 1")
    line = line.replace("/run/secrets", str(tmp_path)).replace("/opt/mlflow/bin/mlflow", f"{sys.executable} -m mlflow")
    line = line.replace("--artifacts-destination /artifacts", f"--artifacts-destination {tmp_path}")
    line = re.sub(r"postgresql\S+", f"sqlite:///{tmp_path}/mlflow.db", line)
    folder = Path(sys.executable).parent
    env = os.environ | HOSTS | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    with running(["/bin/sh", "-c", line], f"http://127.0.0.1:{port}/health", env=env):
        for given, origin, status in (
            (host, host, 200),
            (host, "elsewhere.example", 403),
            ("elsewhere.example", host, 403),
        ):
            answered = httpx.post(
                f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/search",
                json={"max_results": 5},
                headers={"Host": given, "Origin": f"https://{origin}"},
                timeout=60,
            )
            assert answered.status_code == status, (given, origin)


@pytest.mark.slow
def test_the_service_answers_behind_the_proxy(caddyfile, tmp_path):
    """The line of the unit, and the Caddyfile: login, cookie, origin, upload, and the users of MLflow."""
    (tmp_path / "token").write_text(TOKEN + "\n", encoding="utf-8")
    port, page, runs = (free_port() for _ in range(3))
    line = re.search("^ExecStart=(.+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)[1]
    line = line.replace("$$", "$").replace("%d", str(tmp_path)).replace("--port 8000", f"--port {port}")
    words = shlex.split(line.replace("/opt/boneage/bin/boneage", f"{sys.executable} -m boneage"))
    hosts = {"BONEAGE_HOST": f"localhost:{page}", "MLFLOW_HOST": f"localhost:{runs}"}
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **hosts, "BONEAGE_UPSTREAM": f"127.0.0.1:{port}"}
    proxy = ["caddy", "run", "--adapter", "caddyfile", "--config", caddyfile]
    with (
        running(words, f"http://127.0.0.1:{port}/healthz", env=env),
        running(proxy, f"https://localhost:{page}/healthz", env=env),
        httpx.Client(base_url=f"https://localhost:{page}", verify=False, timeout=120) as client,
    ):
        found = client.get("/", headers={"Accept": "text/html"})
        assert (found.status_code, found.headers["location"]) == (303, "/login")
        assert found.headers["strict-transport-security"] == "max-age=31536000"
        origin = {"Origin": f"https://localhost:{page}"}
        entered = client.post("/login", data={"token": TOKEN}, headers=origin)
        assert entered.status_code == 303
        assert "; Secure" in entered.headers["set-cookie"]
        assert client.get("/", headers={"Accept": "text/html"}).status_code == 200
        Image.fromarray(draw_radiograph(120, sex="female", seed=7).pixels).save(tmp_path / "hand.png")
        sent = {"files": {"files": (tmp_path / "hand.png").read_bytes()}, "data": {"sex": "female"}}
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answered = httpx.post(f"{client.base_url}/api/v1/predict", **sent, headers=headers, verify=False, timeout=120)
        assert answered.status_code == 200
        assert answered.json()[0]["bone_age_months"] > 0
        assert httpx.get(f"https://localhost:{runs}/", verify=False).status_code == 401
        asked = httpx.get(f"https://localhost:{runs}/", verify=False, auth=("anna", "a-password"))
        assert asked.status_code == 502  # there is no MLflow here
