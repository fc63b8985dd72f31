"""Import a network of others as a bundle, from an ONNX file and its specification."""

import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from boneage.base.files import check_output, make_folder_beside, write_bytes
from boneage.base.locks import lock_output
from boneage.bundles.bundle import ONNX_FILE, Bundle, start_session
from boneage.bundles.complete import complete_bundle
from boneage.bundles.read_onnx import ImportModelError, parse_onnx
from boneage.bundles.wrap_onnx import wrap
from boneage.configuration.import_spec import ImportSpec, read_import_spec
from boneage.preprocessing.config import fingerprint
from boneage.preprocessing.io.radiograph import Radiograph
from boneage.preprocessing.process import process
from boneage.preprocessing.synthetic import draw_radiograph
from boneage.tfrecords.schema import SEXES, male_from_sex

# Protocol buffers end at 2 GiB; the largest networks of this field have a tenth of this.
MAX_BYTES = 2**30
# The drawn radiograph that an imported network is tried on, in months.
DRAWN_MONTHS = 120.0
_MAX_MONTHS = 240.0
_MAX_BATCH_DIFFERENCE_MONTHS = 0.1
_EXPORT_HINT = "export it for a batch of 1 or of any size"


@dataclasses.dataclass(frozen=True)
class ImportedModel:
    """An imported network.

    Args:
        bundle: Folder of the bundle.
        spec: Its specification.
        tried_months: Its answers for a drawn radiograph of a child of 120 months, in months, by sex. A drawing is no
            radiograph: they only show that the answer is an age.
    """

    bundle: Path
    spec: ImportSpec
    tried_months: dict[str, float]


def import_model(model: str | Path, *, spec: str | Path, out: str | Path) -> ImportedModel:
    """Import a network of others as a bundle: hand stage, gate, calibration and reports are then those of any other.

    The ONNX graph is wrapped in nodes that convert its inputs and its output. No code of its authors is run. The bundle
    has no prediction interval until it is calibrated, and cannot be trained.

    Args:
        model: The ONNX file, at most 1 GiB, with its weights inside.
        spec: TOML file, see `boneage.configuration.import_spec.ImportSpec`.
        out: Folder of the bundle.

    Returns:
        The bundle, and its answers for a drawn radiograph.

    Raises:
        ConfigError: If the specification is invalid.
        ImportModelError: If the file is no such network, does not match the specification, or its answer for a drawn
            radiograph is no bone age between 0 and 240 months.
        NotADirectoryError: If `out` is a file.
        OutputInUseError: If another process writes the folder.
    """
    path, out = Path(model), Path(out)
    stated = read_import_spec(spec)
    check_output(out, is_folder=True)
    with lock_output(out):
        try:
            content = wrap(parse_onnx(_read(path, sha256=stated.sha256)), stated).SerializeToString()
            metadata = _describe(stated)
            tried = _try(content, metadata, stated)
        except ImportModelError as error:
            raise ImportModelError(f"{path}: {error}") from error
        beside = make_folder_beside(out)
        try:
            write_bytes(beside / ONNX_FILE, content)
            return ImportedModel(complete_bundle(beside, out, metadata), stated, tried)
        finally:
            shutil.rmtree(beside, ignore_errors=True)  # there only after an error


def _read(path: Path, *, sha256: str) -> bytes:
    """Read the file once, so that what is checked is what is used."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImportModelError(f"{error.strerror}; give an ONNX file.") from error
    if len(content) > MAX_BYTES:
        raise ImportModelError(f"is larger than {MAX_BYTES / 2**30:.0f} GiB.")
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ImportModelError(f"its SHA-256 is {found}, the specification states {sha256}; download it again.")
    return content


def _describe(spec: ImportSpec) -> dict[str, Any]:
    """Return the metadata of the bundle."""
    return {
        "task": "age",
        "network": spec.name,
        "input_size": spec.image.size_px,
        "use_sex": bool(spec.sex.input),
        "tta": spec.tta,
        "preprocessing": dataclasses.asdict(spec.preprocessing),
        "fingerprint": fingerprint(spec.preprocessing),
        "licence": spec.licence,
        "source": spec.source,
        "imported": {name: value for name, value in dataclasses.asdict(spec).items() if name != "preprocessing"},
        "seen_data": [],
    }


def _try(content: bytes, metadata: dict[str, Any], spec: ImportSpec) -> dict[str, float]:
    """Run the wrapped network on a drawn radiograph.

    Returns:
        Bone age in months by sex.

    Raises:
        ImportModelError: If it cannot be run, or its answer is no bone age.
    """
    drawn = draw_radiograph(DRAWN_MONTHS, sex="female", seed=0)
    radiograph = Radiograph(
        pixels=drawn.pixels,
        pixel_spacing_mm=None,
        sex=None,
        chronological_age_months=None,
        laterality=None,
        source_sha256="",
    )
    prepared = process(radiograph, spec.preprocessing)
    if prepared.image is None:
        raise ImportModelError("the preprocessing finds no hand in a drawn radiograph; check [preprocessing].")
    try:
        bundle = Bundle(Path(), start_session(content), metadata)
    except Exception as error:  # ONNX Runtime documents no closed set of errors
        raise ImportModelError(f"ONNX Runtime cannot load it: {_shorten(error)}.") from error
    image = bundle.resize_to_input(prepared.image)[None]
    male = np.array([[male_from_sex(sex)] for sex in SEXES], np.float32)
    alone = np.concatenate([_predict(bundle, image, row[None]) for row in male])
    try:
        together = _predict(bundle, np.repeat(image, len(male), axis=0), male)
    except ImportModelError as error:
        raise ImportModelError(f"in a batch of {len(male)}: {error} Alone it answers: {_EXPORT_HINT}.") from error
    if not (np.abs(together - alone) <= _MAX_BATCH_DIFFERENCE_MONTHS).all():
        raise ImportModelError(
            f"answers {together[0]:.1f} months in a batch of {len(male)} and {alone[0]:.1f} alone; {_EXPORT_HINT}."
        )
    return dict(zip(SEXES, alone.tolist(), strict=True))


def _predict(bundle: Bundle, images: np.ndarray, male: np.ndarray) -> np.ndarray:
    """Return bone ages in months, shape `(batch,)`, that are such.

    Raises:
        ImportModelError: If the network fails or answers something else.
    """
    try:
        months = bundle.predict_batch(images, male, tta="none")
    except Exception as error:  # ONNX Runtime documents no closed set of errors
        raise ImportModelError(f"ONNX Runtime cannot run it: {_shorten(error)}.") from error
    if months.shape != (len(images),):
        raise ImportModelError(
            f"answers {months.size / len(images):g} values for each radiograph; kind = 'months', 'years' and "
            "'standardised' need one."
        )
    if not ((months >= 0) & (months <= _MAX_MONTHS)).all():  # also rejects NaN
        raise ImportModelError(
            f"answers {months[0]:.4g} months for a drawn hand of {DRAWN_MONTHS:.0f}, which is no bone age in 0 to "
            f"{_MAX_MONTHS:.0f}; check [image] value_range, mean and std, and [output] kind."
        )
    return months


def _shorten(error: Exception) -> str:
    """Return the message of ONNX Runtime on one line."""
    return " ".join(str(error).split())[:300].rstrip(".")
