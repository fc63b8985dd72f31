import os
import subprocess
import sys
import textwrap

import pytest

IMPORT = "from boneage.tfrecords.quiet import import_tensorflow; import_tensorflow()"
INFORMATION = "I0000 00:00:1796051871.539309   11383 cudart_stub.cc:31] Could not find cuda drivers on your machine."
ERROR = "E0000 00:00:1796051871.539309   11383 cuda_platform.cc:52] failed call to cuInit: UNKNOWN ERROR (303)"
MESSAGES = f"{INFORMATION}\n{ERROR}\n".encode()
HINT = "TensorFlow does not use the GPU of this machine: install tensorflow[and-cuda]"


@pytest.fixture
def run(tmp_path):
    """A function that imports a TensorFlow that writes those messages, and gives what is written to standard error."""

    def run(*, devices=(), gpus=(), fails=False, **variables):
        (tmp_path / "dev").mkdir()
        for name in devices:
            (tmp_path / "dev" / name).touch()
        (tmp_path / "tensorflow.py").write_text(
            textwrap.dedent(f"""
                import os, types, warnings
                os.write(2, {MESSAGES!r})
                warnings.warn("NumPy is too old")
                config = types.SimpleNamespace(list_physical_devices=lambda kind=None: {list(gpus)!r})
                if {fails!r}:
                    raise ImportError("libcuda")
            """)
        )
        code = (
            f"import pathlib; import boneage.tfrecords.quiet as quiet; quiet._DEVICES = pathlib.Path('dev'); {IMPORT}"
        )
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), **variables}
        for name in {"TF_CPP_MIN_LOG_LEVEL", "CUDA_VISIBLE_DEVICES"} - variables.keys():
            environment.pop(name, None)
        ended = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert (ended.returncode, ended.stdout) == (1 if fails else 0, "")
        return ended.stderr

    return run


def test_import_tensorflow_writes_nothing():
    ended = subprocess.run(
        [sys.executable, "-c", f"{IMPORT}; import keras"], capture_output=True, text=True, check=True
    )
    assert (ended.stdout, ended.stderr) == ("", "")


@pytest.mark.parametrize(
    "machine",
    [
        {},
        {"devices": ["nvidiactl"]},
        {"devices": ["nvidia0"], "gpus": ["GPU:0"]},
        {"devices": ["nvidia0"], "CUDA_VISIBLE_DEVICES": "-1"},
        {"devices": ["nvidia0"], "CUDA_VISIBLE_DEVICES": ""},
    ],
    ids=["none", "only a driver", "used", "hidden", "hidden by nothing"],
)
def test_import_tensorflow_leaves_the_warnings_of_python(run, machine):
    written = run(**machine)
    assert "NumPy is too old" in written
    assert "cuda" not in written


def test_import_tensorflow_tells_of_a_gpu_that_is_not_used(run):
    written = run(devices=["nvidia0"])
    assert HINT in written and ERROR in written
    assert INFORMATION not in written


def test_import_tensorflow_tells_everything_where_it_fails(run):
    written = run(fails=True)
    assert INFORMATION in written and ERROR in written and "ImportError: libcuda" in written


def test_import_tensorflow_tells_everything_if_asked(run):
    written = run(TF_CPP_MIN_LOG_LEVEL="0")
    assert INFORMATION in written and ERROR in written and HINT not in written
