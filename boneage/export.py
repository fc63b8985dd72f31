"""A bundle's network in the format of another runtime, compared with what it answers in Keras.

What is written is the network alone: it wants images that the bundle's preprocessing prepared, scaled to [0, 1], and it
answers to one look. Views, calibration and interval stay with the bundle.
"""

import importlib
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from boneage.saving import check_difference, export_onnx, load_network, probe
from tfrecords.errors import BoneAgeError, check_choice

OPENVINO_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}


class ExportFailed(BoneAgeError):
    """A network that could not be written."""


def export(bundle: str | Path, *, out: str | Path, format: str) -> float:
    """Write the network of a bundle for another runtime.

    Args:
        bundle: The bundle.
        out: The file to make, or the folder for the format `"saved_model"`.
        format: `"onnx"`, `"saved_model"` (TensorFlow), `"tflite"` (LiteRT), or `"openvino"` (an `.xml` file and a
            `.bin` file of the same name beside it, to be compiled with `OPENVINO_SETTINGS`).

    Returns:
        The largest difference from what the network answers in Keras, in months (for a network that tells the sex, in
        probability), over a few random images.

    Raises:
        BoneAgeError: If the bundle is damaged or carries no network to build on, the difference is above 0.1, `out` is
            already there or cannot be written, or the format is `"openvino"` and openvino is not installed.
        ValueError: If the format is unknown.
    """
    check_choice("format", format, tuple(FORMATS))
    out = Path(out)
    if out.exists():
        raise ExportFailed(f"{out}: already there; remove it or name another by --out.")
    if format == "openvino":
        if out.suffix != ".xml":
            raise ExportFailed(f"{out}: OpenVINO's file must end in .xml; name another by --out.")
        if importlib.util.find_spec("openvino") is None:
            raise ExportFailed("the format openvino needs openvino; install it by: pip install openvino")
    model = load_network(bundle)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as beside:
            difference = FORMATS[format](model, Path(beside) / out.name)
            for made in sorted(Path(beside).iterdir()):  # OpenVINO makes two files
                os.replace(made, out.with_name(made.name))
    except OSError as error:
        raise ExportFailed(f"{out}: {error.strerror or error}; name another place by --out.") from error
    return difference


def _export_saved_model(model: keras.Model, path: Path) -> float:
    import tensorflow as tf

    probes, expected = probe(model)
    model.export(path, format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(path)
    answers = loaded.serve({name: tf.constant(value) for name, value in probes.items()})
    return check_difference(np.asarray(answers), expected, path=path)


def _export_tflite(model: keras.Model, path: Path) -> float:
    import tensorflow as tf

    probes, expected = probe(model)
    model.export(path, format="litert", verbose=False)
    with warnings.catch_warnings():
        # TensorFlow 2.21 names a package that is to replace its interpreter, which still comes with it.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        interpreter = tf.lite.Interpreter(str(path))
    run = interpreter.get_signature_runner()
    answers = [
        next(iter(run(**{name: value[number : number + 1] for name, value in probes.items()}).values()))
        for number in range(len(expected))
    ]
    return check_difference(np.concatenate(answers), expected, path=path)


def _export_openvino(model: keras.Model, path: Path) -> float:
    openvino = importlib.import_module("openvino")
    onnx = path.with_suffix(".onnx")
    try:
        export_onnx(model, onnx)
        converted = openvino.convert_model(onnx)
    finally:
        onnx.unlink(missing_ok=True)
    # By default it keeps weights in half precision, and computes in bfloat16 where the processor can: each costs
    # tenths of a month.
    openvino.save_model(converted, path, compress_to_fp16=False)
    probes, expected = probe(model)
    compiled = openvino.compile_model(path, "CPU", OPENVINO_SETTINGS)
    return check_difference(compiled(probes)[0], expected, path=path)


FORMATS: dict[str, Callable[[keras.Model, Path], float]] = {
    "onnx": export_onnx,
    "saved_model": _export_saved_model,
    "tflite": _export_tflite,
    "openvino": _export_openvino,
}
