import json
import re
import shlex
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from boneage.cli import app, main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND = typer.main.get_command(app)


def run_main(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["boneage", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def modules_after(code: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after running `code`."""
    script = f"import sys; {code}; print('\\n'.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    )


@pytest.mark.parametrize("name", sorted(COMMAND.commands))
def test_every_command_explains_itself_and_stands_in_the_readme(name):
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert (COMMAND.commands[name].help or "").endswith(".")
    for option in COMMAND.commands[name].params:
        assert getattr(option, "help", None), f"{name}: {option.name} has no help"
    assert re.search(rf"(boneage|make) {name}\b", README), f"the README does not show {name}"


@pytest.mark.parametrize("line", sorted(set(re.findall(r"^boneage .+", README, re.MULTILINE))))
def test_every_command_line_of_the_readme_is_valid(line):
    words = shlex.split(line, comments=True)[1:]
    command = COMMAND.commands[words[0]]
    context = command.make_context(words[0], words[1:], resilient_parsing=False)
    assert context.params


def test_files_that_the_readme_names_exist():
    for path in re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r"experiments/\w+\.toml", README):
        assert (ROOT / path).exists(), path


def test_a_mistake_is_one_line_and_status_1(monkeypatch, capsys, tmp_path):
    assert run_main(monkeypatch, "records", tmp_path) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("boneage: ")
    assert captured.err.count("\n") == 1
    assert "boneage prepare" in captured.err


def test_wrong_usage_is_status_2(monkeypatch, capsys):
    assert run_main(monkeypatch, "records") == 2
    assert "Missing argument" in capsys.readouterr().err


def test_debug_shows_the_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["boneage", "--debug", "records", str(tmp_path)])
    with pytest.raises(Exception, match=r"dataset_info\.json"):
        main()


def test_records_describes_and_verifies_as_json(monkeypatch, capsys, prepared):
    assert run_main(monkeypatch, "records", prepared.folder, "--verify", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["faults"] == []
    assert told["splits"]["train"]["num_records"] == 32


def test_names_the_extra_that_a_command_needs(monkeypatch, capsys, tmp_path):
    def missing(*_, **__):
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    monkeypatch.setattr("boneage.evaluation.evaluate", missing)
    assert run_main(monkeypatch, "evaluate", tmp_path, "--data", tmp_path) == 1
    assert "pip install 'boneage[train]'" in capsys.readouterr().err


def test_importing_loads_nothing_heavy():
    heavy = {"tensorflow", "keras", "torch", "mlflow", "pandas", "matplotlib", "cv2", "numpy", "pydicom", "pydantic"}
    assert not modules_after("import boneage, preprocessing, tfrecords") & heavy
    assert not modules_after("import boneage.cli") & heavy


def test_preparing_needs_neither_tensorflow_nor_torch():
    assert not modules_after("import preprocessing.prepare, tfrecords.verify") & {"tensorflow", "keras", "torch"}


def test_the_three_packages_come_from_one_distribution():
    found = packages_distributions()
    assert {name: set(found[name]) for name in ("boneage", "preprocessing", "tfrecords")} == {
        name: {"boneage"} for name in ("boneage", "preprocessing", "tfrecords")
    }
