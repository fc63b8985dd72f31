"""Export a bundle's network to the format of another runtime, and compare its output with Keras.

Only the network is exported. Its input are images prepared by the bundle's preprocessing and scaled to [0, 1];
test-time augmentation, calibration and prediction interval are not included.
"""

import importlib
import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from boneage.base.errors import BoneAgeError, check_choice
from boneage.base.files import make_folder_beside
from boneage.base.locks import lock_output
from boneage.bundles.save import check_difference, export_onnx, load_network, probe
from boneage.registry.resolve import resolve_bundle

OPENVINO_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}


class ExportError(BoneAgeError):
    """A network could not be exported."""


def export(bundle: str | Path, *, out: str | Path, format: str) -> float:
    """Export the network of a bundle for another runtime.

    Args:
        bundle: The bundle.
        out: The file to create, or the folder for the format `"saved_model"`.
        format: `"onnx"`, `"saved_model"` (TensorFlow), `"tflite"` (LiteRT), or `"openvino"` (an `.xml` file and a
            `.bin` file of the same name beside it, to be compiled with `OPENVINO_SETTINGS`).

    Returns:
        The largest difference from the output in Keras over a few random images, in months (in probability for sex
        classification).

    Raises:
        BoneAgeError: If the bundle is damaged or contains no network for training, the difference is above 0.1, `out`
            exists or cannot be written, or the format is `"openvino"` and openvino is not installed.
        ValueError: If the format is unknown.
    """
    check_choice("format", format, tuple(FORMATS))
    out = Path(out)
    if out.exists():
        raise ExportError(f"{out}: already exists; remove it or choose another path with --out.")
    if format == "openvino":
        if out.suffix != ".xml":
            raise ExportError(f"{out}: an OpenVINO file must end in .xml; choose another path with --out.")
        if importlib.util.find_spec("openvino") is None:
            raise ExportError("the format openvino requires openvino; install it with: pip install openvino")
    folder = resolve_bundle(bundle)
    try:
        with lock_output(out):  # Before the network is loaded, which takes a while.
            model = load_network(folder)
            beside = make_folder_beside(out)
            try:
                difference = FORMATS[format](model, beside / out.name)
                for made in sorted(beside.iterdir()):  # OpenVINO writes two files, the one that is asked for last
                    os.replace(made, out.with_name(made.name))
            finally:
                shutil.rmtree(beside)
    except OSError as error:
        raise ExportError(f"{out}: {error.strerror or error}; choose another path with --out.") from error
    return difference


def _export_saved_model(model: keras.Model, path: Path) -> float:
    import tensorflow as tf

    probes, expected = probe(model)
    model.export(path, format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(path)
    output = loaded.serve({name: tf.constant(value) for name, value in probes.items()})
    return check_difference(np.asarray(output), expected, path=path)


def _export_tflite(model: keras.Model, path: Path) -> float:
    import tensorflow as tf

    probes, expected = probe(model)
    model.export(path, format="litert", verbose=False)
    with warnings.catch_warnings():
        # TensorFlow 2.21 recommends another package for its interpreter, which it still includes.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        interpreter = tf.lite.Interpreter(str(path))
    run = interpreter.get_signature_runner()
    outputs = [
        next(iter(run(**{name: value[number : number + 1] for name, value in probes.items()}).values()))
        for number in range(len(expected))
    ]
    return check_difference(np.concatenate(outputs), expected, path=path)


def _export_openvino(model: keras.Model, path: Path) -> float:
    openvino = importlib.import_module("openvino")
    onnx = path.with_suffix(".onnx")
    try:
        export_onnx(model, onnx)
        converted = openvino.convert_model(onnx)
    finally:
        onnx.unlink(missing_ok=True)
    # The defaults are half-precision weights and, on processors that have it, bfloat16: each costs tenths of a month.
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
