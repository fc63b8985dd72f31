import importlib.metadata
import inspect
import json
import subprocess
import sys

import pytest

import boneage

FUNCTIONS = [
    "agree",
    "best",
    "calibrate",
    "dose",
    "ensemble",
    "evaluate",
    "follow",
    "height",
    "import_model",
    "load",
    "outcomes",
    "predict",
    "prepare",
    "publish",
    "reference_atlas",
    "reference_compare",
    "reference_fit",
    "register_backbone",
    "segment",
    "stress",
    "sync",
    "train",
    "tune",
]


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_package_lists_its_functions():
    assert boneage.__all__ == FUNCTIONS
    assert dir(boneage) == FUNCTIONS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_the_same_at_every_access(name):
    function = getattr(boneage, name)
    assert inspect.isfunction(function)
    assert function.__name__ == name
    assert getattr(boneage, name) is function


def test_importing_a_submodule_first_changes_no_function():
    told = run_python(
        "import inspect, json, boneage.bundles.join, boneage.preprocessing.jobs.segment;"
        "print(json.dumps([inspect.isfunction(getattr(boneage, name)) for name in ('ensemble', 'segment') * 2]))"
    )
    assert json.loads(told) == [True] * 4


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No boneage attribute forecast"):
        boneage.forecast  # noqa: B018 - the access is what is tested


def test_the_version_is_that_of_the_distribution():
    assert boneage.__version__ == importlib.metadata.version("boneage")


def test_importing_loads_nothing_heavy():
    told = run_python("import json, sys, boneage; print(json.dumps([*{name.split('.')[0] for name in sys.modules}]))")
    loaded = set(json.loads(told))
    assert "lazy_loader" in loaded
    assert not loaded & {"cv2", "keras", "mlflow", "numpy", "onnxruntime", "pandas", "pydicom", "tensorflow", "typer"}
