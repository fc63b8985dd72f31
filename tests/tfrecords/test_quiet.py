import subprocess
import sys


def test_import_tensorflow_writes_nothing():
    code = "from boneage.tfrecords.quiet import import_tensorflow; import_tensorflow(); import keras"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("", "")
