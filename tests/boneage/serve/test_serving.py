"""The server as it runs: the command, curl, and what it does not load."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from boneage.cli.main import main
from boneage.cli.serving import _listen
from boneage.serve.app import create_app

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_lines_of_the_documentation_work(live, reader, half, tmp_path):
    lines = re.findall(r"^curl .+", (ROOT / "docs" / "server.md").read_text(encoding="utf-8"), re.MULTILINE)
    (tmp_path / "1520.png").write_bytes(half)
    address, answers = live(create_app(reader)), []
    for line in lines:
        words = [word.replace("http://127.0.0.1:8000", address) for word in shlex.split(line)]
        done = subprocess.run([*words, "--silent", "--fail"], cwd=tmp_path, check=True, capture_output=True)
        answers.append(json.loads(done.stdout))
    (told,), course, heights = answers
    assert (told["file"], told["accepted"], told["sex"]) == ("1520.png", True, "female")
    assert told["difference_months"] == pytest.approx(told["bone_age_months"] - 126, abs=0.01)
    assert (course["overall"]["velocity"], course["overall"]["pace"]) == (29, "accelerated")
    assert heights["target_height_cm"] == 179


def test_reads_without_tensorflow_or_torch(reader, half, tmp_path):
    (tmp_path / "1.png").write_bytes(half)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from boneage.inference.loading import load\n"
        "from boneage.serve.app import create_app\n"
        "from boneage.serve.readings import Upload, read_upload\n"
        "reader = load(sys.argv[1])\n"
        "create_app(reader)\n"
        "answer = read_upload(reader, Upload('1.png', Path(sys.argv[2]).read_bytes(), 'male'))\n"
        "print(answer.accepted, *{'tensorflow', 'keras', 'torch', 'mlflow'} & set(sys.modules))\n"
    )
    words = [sys.executable, "-c", script, str(reader.age_bundle.folder), str(tmp_path / "1.png")]
    assert subprocess.run(words, check=True, capture_output=True, text=True).stdout == "True\n"


def run_main(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["boneage", "serve", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_the_command_tells_its_address(monkeypatch, capsys, reader):
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    assert run_main(monkeypatch, "--bundle", reader.age_bundle.folder, "--port", 0) == 0
    assert re.match(r"boneage on http://127\.0\.0\.1:\d+ \(research use", capsys.readouterr().out)


def test_the_command_takes_tables_of_heights(monkeypatch, capsys, reader, tmp_path):
    apps = []
    monkeypatch.setattr("boneage.cli.serving._run", lambda app, listener: apps.append(app))
    row = "sex,maturation,bone_age_months,percent_of_adult_height\nmale,average,96,70\nmale,average,168,90\n"
    (tmp_path / "tables.csv").write_text(row)
    (tmp_path / "cdc.csv").write_text("Sex,Agemos,L,M,S\n1,24,1,85,0.04\n1,240,1,175,0.04\n")
    words = ("--bundle", reader.age_bundle.folder, "--port", 0, "--cdc", tmp_path / "cdc.csv")
    assert run_main(monkeypatch, *words, "--tables", tmp_path / "tables.csv") == 0
    child = {"sex": "male", "height_cm": 130, "bone_age_months": 96, "chronological_age_months": 96}
    sent = TestClient(apps[0], base_url="http://127.0.0.1:8000").post("/api/v1/height", json=child).json()
    assert sent["adult_height_cm"] == round(130 / 0.7, 2) and sent["cdc_sds"] is not None
    capsys.readouterr()
    assert run_main(monkeypatch, *words, "--tables", tmp_path / "missing.csv") == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "missing.csv: No such file" in told


def test_the_command_refuses_in_one_line(monkeypatch, capsys, reader):
    monkeypatch.delenv("BONEAGE_TOKEN", raising=False)
    assert run_main(monkeypatch, "--host", "0.0.0.0") == 1
    assert "--token" in capsys.readouterr().err
    with _listen("127.0.0.1", 0) as taken:
        assert run_main(monkeypatch, "--bundle", reader.age_bundle.folder, "--port", taken.getsockname()[1]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "choose another --host or --port" in told
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert run_main(monkeypatch) == 1
    assert capsys.readouterr().err == "boneage: requires uvicorn; install it with: pip install 'boneage[serve]'\n"
