import json
import re
import shlex
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
import typer.main
from PIL import Image
from typer.testing import CliRunner

from boneage.cli import app, main
from tfrecords.errors import BoneAgeError

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


@pytest.fixture
def segment_by_sam(tmp_path, monkeypatch):
    """Arguments that let a checkpoint of no weights look for a hand."""
    checkpoint, radiographs = tmp_path / "own.pth", tmp_path / "radiographs"
    checkpoint.write_bytes(b"no weights")
    radiographs.mkdir()
    Image.fromarray(np.arange(4096, dtype=np.uint16).astype(np.uint8).reshape(64, 64)).save(radiographs / "a.png")
    return ["segment", radiographs, "--out", tmp_path / "masks", "--sam-checkpoint", checkpoint]


def test_segment_anything_names_its_extra(monkeypatch, capsys, segment_by_sam):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "preprocessing.sam.official", raising=False)
    assert run_main(monkeypatch, *segment_by_sam, "--segmenter", "sam") == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == "boneage: this needs torch; install it by: pip install 'boneage[sam]'"


def test_a_checkpoint_of_no_use_is_told_before_anything_is_done(monkeypatch, capsys, segment_by_sam):
    assert run_main(monkeypatch, *segment_by_sam, "--segmenter", "unet") == 1
    assert capsys.readouterr().err == "boneage: --sam-checkpoint needs --segmenter sam. Received: unet.\n"
    assert run_main(monkeypatch, *segment_by_sam, "--segmenter", "sam", "--sam-model", "vit-h") == 1
    assert "Did you mean 'vit_h'?" in capsys.readouterr().err
    assert not segment_by_sam[3].exists()


def test_names_the_extra_that_a_runner_needs(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert run_main(monkeypatch, "prepare", tmp_path, "--out", tmp_path / "records", "--runner", "DirectRunner") == 1
    assert "pip install 'boneage[beam]'" in capsys.readouterr().err


def test_what_follows_two_dashes_goes_to_the_runner(monkeypatch, tmp_path):
    given = {}

    def prepare(source, **options):
        given.update(options, source=source)
        raise BoneAgeError("enough")

    monkeypatch.setattr("preprocessing.prepare.prepare", prepare)
    words = ("prepare", "dicom", "--runner", "FlinkRunner", "--out", tmp_path, "--", "--parallelism=2", "--streaming")
    assert run_main(monkeypatch, *words) == 1
    assert (given["source"], given["runner"]) == (Path("dicom"), "FlinkRunner")
    assert list(given["runner_options"]) == ["--parallelism=2", "--streaming"]


def test_importing_loads_nothing_heavy():
    heavy = {"tensorflow", "keras", "torch", "mlflow", "pandas", "matplotlib", "cv2", "numpy", "pydicom", "pydantic"}
    assert not modules_after("import boneage, preprocessing, tfrecords") & heavy
    assert not modules_after("import boneage.cli") & heavy


def test_preparing_needs_neither_tensorflow_nor_torch_nor_beam():
    heavy = {"tensorflow", "keras", "torch", "apache_beam"}
    assert not modules_after("import preprocessing.prepare, tfrecords.verify") & heavy


def test_the_three_packages_come_from_one_distribution():
    found = packages_distributions()
    assert {name: set(found[name]) for name in ("boneage", "preprocessing", "tfrecords")} == {
        name: {"boneage"} for name in ("boneage", "preprocessing", "tfrecords")
    }
