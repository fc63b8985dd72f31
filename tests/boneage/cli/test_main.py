import functools
import json
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

import boneage
from boneage.base.errors import BoneAgeError
from boneage.cli.main import _name_options, app, main
from boneage.preprocessing.jobs.prepare import PreparationResult

ROOT = Path(__file__).parents[3]
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


def list_commands(group, *names):
    """List the names of all commands, those of groups after the name of the group."""
    found = []
    for name, command in group.commands.items():
        found.append((*names, name))
        found += list_commands(command, *names, name) if hasattr(command, "commands") else []
    return found


@pytest.mark.parametrize("names", list_commands(COMMAND), ids="-".join)
def test_every_command_explains_itself(names):
    command = functools.reduce(lambda group, name: group.commands[name], names, COMMAND)
    result = CliRunner().invoke(app, [*names, "--help"])
    assert result.exit_code == 0
    assert (command.help or "").endswith(".")
    for option in command.params:
        assert getattr(option, "help", None), f"{names}: {option.name} has no help"


def test_a_mistake_is_one_line_and_status_1(monkeypatch, capsys, tmp_path):
    assert run_main(monkeypatch, "records", tmp_path) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("boneage: ")
    assert captured.err.count("\n") == 1
    assert "boneage prepare" in captured.err


def test_wrong_usage_is_status_2(monkeypatch, capsys):
    assert run_main(monkeypatch, "records") == 2
    assert "Missing argument" in capsys.readouterr().err


def test_prints_the_version(monkeypatch, capsys):
    assert run_main(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"boneage {boneage.__version__}\n"


def test_the_package_runs_as_a_module():
    told = subprocess.run([sys.executable, "-m", "boneage", "--version"], check=True, capture_output=True, text=True)
    assert told.stdout == f"boneage {boneage.__version__}\n"


def test_a_shell_completes_commands_and_options(monkeypatch, capsys):
    monkeypatch.setenv("_BONEAGE_COMPLETE", "complete_bash")
    for words, expected in (("boneage reco", "records"), ("boneage records --ver", "--verify")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
        assert run_main(monkeypatch) == 0
        assert capsys.readouterr().out.split() == [expected]


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

    monkeypatch.setattr("boneage.cohorts.evaluate.evaluate", missing)
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
    monkeypatch.delitem(sys.modules, "boneage.preprocessing.sam.official", raising=False)
    assert run_main(monkeypatch, *segment_by_sam, "--segmenter", "sam") == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == "boneage: requires torch; install it with: pip install 'boneage[sam]'"


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


def test_prepare_names_the_command_that_reviews(monkeypatch, capsys, prepared, tmp_path):
    folder = tmp_path / "the records"
    (folder / "review").mkdir(parents=True)
    made = PreparationResult(folder, prepared.info, [])
    monkeypatch.setattr("boneage.preprocessing.jobs.prepare.prepare", lambda source, **options: made)
    assert run_main(monkeypatch, "prepare", "my films", "--out", folder) == 0
    words = shlex.split(capsys.readouterr().out.partition("decide: ")[2])
    assert words == ["boneage", "review", str(folder), "--source", "my films"]


def test_what_follows_two_dashes_goes_to_the_runner(monkeypatch, tmp_path):
    given = {}

    def prepare(source, **options):
        given.update(options, source=source)
        raise BoneAgeError("enough")

    monkeypatch.setattr("boneage.preprocessing.jobs.prepare.prepare", prepare)
    words = ("prepare", "dicom", "--runner", "FlinkRunner", "--out", tmp_path, "--", "--parallelism=2", "--streaming")
    assert run_main(monkeypatch, *words) == 1
    assert (given["source"], given["runner"]) == (Path("dicom"), "FlinkRunner")
    assert list(given["runner_options"]) == ["--parallelism=2", "--streaming"]


def test_importing_loads_nothing_heavy():
    heavy = {"tensorflow", "keras", "torch", "mlflow", "pandas", "matplotlib", "cv2", "numpy", "pydicom", "pydantic"}
    assert not modules_after("import boneage, boneage.preprocessing, boneage.tfrecords") & heavy
    assert not modules_after("import boneage.cli.main") & heavy


def test_preparing_needs_neither_tensorflow_nor_torch_nor_beam():
    heavy = {"tensorflow", "keras", "torch", "apache_beam"}
    assert not modules_after("import boneage.preprocessing.jobs.prepare, boneage.tfrecords.verify") & heavy


def test_packages_distributions_claims_one_name():
    ours = {name for name, owners in packages_distributions().items() if "boneage" in owners}
    assert {name for name in ours if not name.startswith("__editable__")} == {"boneage"}


def test_name_options_names_what_the_command_takes():
    predict = ["--debug", "predict", "films", "--tta", "five"]
    assert _name_options("`tta` or `sex_bundle` of `series`", words=predict) == "--tta or --sex-bundle of `series`"
    # `boneage train` takes it as a setting of the experiment, and the argument EXPERIMENT is no option.
    train = ["train", "x.toml", "--set", "train.tta=five"]
    assert _name_options("`tta` in `experiment`", words=train) == "`tta` in `experiment`"
    assert _name_options("`out` of `min_children`", words=["reference", "fit"]) == "--out of --min-children"
