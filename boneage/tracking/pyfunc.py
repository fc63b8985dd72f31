"""A bundle as an MLflow model: plain files and this module, so that loading unpickles nothing.

The input is a table with the columns `image` (path of a file, its bytes, or its bytes in base64), `sex` (`"female"`,
`"male"`, or missing if the file contains it) and `chronological_age_months` (missing if it is unknown or the file
contains it); the output has one row per image, and rejects films of two hands. Loading needs neither TensorFlow nor
torch.
"""

import base64
import binascii
import importlib.metadata
import os
import re
from pathlib import Path
from typing import Any

import cv2
import pandas as pd

from boneage.base.files import write_json
from boneage.base.sex import UnknownSexError, parse_sex
from boneage.bundles.bundle import read_metadata
from boneage.inference.loading import load
from boneage.inference.reader import Reader
from boneage.preprocessing.io.isolated import decode_isolated, read_isolated
from boneage.preprocessing.io.radiograph import Radiograph, UnreadableImageError, resolve_sex
from boneage.preprocessing.synthetic import draw_radiograph
from boneage.registry.digest import metadata_digest
from boneage.registry.fetch import find_bundle_in
from boneage.registry.settings import METADATA_FILE
from boneage.tracking.outbox import redact_paths

COLUMNS = ("bone_age_months", "low_months", "high_months", "accepted", "reasons", "warnings")
# Name of an image without a file, in errors.
_SENT = Path("image")


class BoneAgeModel:
    """The model that MLflow loads.

    Args:
        reader: The reader.
    """

    def __init__(self, reader: Reader):
        self._reader = reader

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Read radiographs.

        Args:
            model_input: Columns `image` and, unless the files contain them, `sex` and `chronological_age_months`.
            params: Unused; passed by MLflow.

        Returns:
            `bone_age_months`, `low_months` and `high_months`, NaN if rejected; `accepted`; `reasons` and `warnings`,
            codes joined by `;`, the former empty if accepted.
        """
        nothing = [None] * len(model_input)
        columns = [model_input.get(name, nothing) for name in ("image", "sex", "chronological_age_months")]
        rows = [self._predict_row(*cells) for cells in zip(*columns, strict=True)]
        return pd.DataFrame(rows, columns=list(COLUMNS), index=model_input.index)

    def _predict_row(
        self, image: str | bytes, sex: str | None, age_months: float | None
    ) -> tuple[float, float, float, bool, str, str]:
        nothing = (float("nan"),) * 3
        try:
            given = None if pd.isna(sex) else parse_sex(str(sex))
            radiograph = _read_image(image)
            reading = self._reader.read(
                radiograph,
                path=_SENT,
                sex=resolve_sex(radiograph, given, path=_SENT),
                chronological_age_months=radiograph.chronological_age_months if pd.isna(age_months) else age_months,
            )
        except UnknownSexError:
            return *nothing, False, "sex_unknown", ""
        except UnreadableImageError as error:
            return *nothing, False, error.reason, ""
        warnings = ";".join(reading.warnings)
        if not reading.accepted:
            return *nothing, False, ";".join(reading.reasons), warnings
        return reading.bone_age_months, reading.low_months, reading.high_months, True, "", warnings


def _read_image(image: str | bytes) -> Radiograph:
    if isinstance(image, str):
        if os.path.isfile(image):  # noqa: PTH113 - Path.is_file raises for a long base64 text
            return read_isolated(image)
        try:
            image = base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError):
            raise UnreadableImageError("image is neither a file nor base64.", reason="missing_file") from None
    return decode_isolated(bytes(image), path=_SENT)


def _load_pyfunc(data_path: str) -> BoneAgeModel:
    """Load a bundle for MLflow, which calls a function of this name."""
    return BoneAgeModel(load(data_path))


def write_model(folder: Path, bundle: Path, *, run_id: str | None = None, model_id: str | None = None) -> Path:
    """Write a bundle as an MLflow model, with its signature, an input example and its requirements.

    Args:
        folder: Output folder.
        bundle: The bundle. Paths in the metadata of the copy are reduced to their last part.
        run_id: MLflow id of the run that made it.
        model_id: MLflow id of the model.

    Returns:
        The output folder.
    """
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, Schema, TensorSpec

    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(AnyType(), "image"),
        ColSpec("string", "sex", required=False),
        ColSpec("double", "chronological_age_months", required=False),
    ]
    months = [ColSpec("double", name) for name in COLUMNS[:3]]
    codes = [ColSpec("string", name) for name in COLUMNS[4:]]
    outputs: list[ColSpec | TensorSpec] = [*months, ColSpec("boolean", "accepted"), *codes]
    mlflow.pyfunc.save_model(
        folder,
        loader_module=__name__,
        data_path=str(bundle),
        mlflow_model=Model(run_id=run_id, model_id=model_id),
        signature=ModelSignature(Schema(inputs), Schema(outputs)),
        input_example=_example(),
        pip_requirements=_requirements(),
    )
    metadata = redact_paths(read_metadata(bundle))
    write_json(find_bundle_in(folder) / METADATA_FILE, {**metadata, "metadata_digest": metadata_digest(metadata)})
    return folder


def _example() -> pd.DataFrame:
    """Return an input example with a synthetic radiograph."""
    drawn = draw_radiograph(120, sex="female", seed=0, size_px=(160, 128))
    _, encoded = cv2.imencode(".png", drawn.pixels)
    return pd.DataFrame({"image": [base64.b64encode(encoded.tobytes()).decode()], "sex": ["female"]})


def _requirements() -> list[str]:
    """Return the package and the requirements of its core."""
    needed = importlib.metadata.requires("boneage") or []
    own = f"boneage=={importlib.metadata.version('boneage')}"
    return [own, *(requirement for requirement in needed if not re.search(r";.*\bextra\b", requirement))]
