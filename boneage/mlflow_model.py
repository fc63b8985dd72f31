"""A bundle as a model of MLflow's: plain files and this module, so that nothing is unpickled to load it.

It answers a table with the columns `image` (path of a file, its bytes, or its bytes in base64) and `sex` (`"female"`,
`"male"`, or missing where the file tells it) with one row for each, as `boneage.predict` does. Loading it takes neither
TensorFlow nor torch.
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

from boneage.bundle import METADATA_FILE, read_metadata, seal
from boneage.journal import hide_folders
from boneage.reader import Reader, load_reader, settle_sex
from preprocessing.radiograph import Radiograph, UnreadableImage
from preprocessing.read import decode_radiograph, read_radiograph
from preprocessing.synthetic import draw_radiograph
from tfrecords.schema import SEXES
from tfrecords.write import write_json

COLUMNS = ("bone_age_months", "low_months", "high_months", "accepted", "reasons")
# What errors call an image that came without a file.
_SENT = Path("image")


class BoneAgeModel:
    """What MLflow loads.

    Args:
        reader: What reads a radiograph.
    """

    def __init__(self, reader: Reader):
        self._reader = reader

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Read radiographs.

        Args:
            model_input: Columns `image` and, where the files do not tell it, `sex`.
            params: Not used; MLflow passes it.

        Returns:
            `bone_age_months`, `low_months` and `high_months`, NaN where there is none; `accepted`; `reasons`, codes
            joined by `;`, empty where accepted.
        """
        sexes = model_input["sex"] if "sex" in model_input else [None] * len(model_input)
        rows = [self._answer(image, sex) for image, sex in zip(model_input["image"], sexes, strict=True)]
        return pd.DataFrame(rows, columns=list(COLUMNS), index=model_input.index)

    def _answer(self, image: str | bytes, sex: str | None) -> tuple[float, float, float, bool, str]:
        given = None if pd.isna(sex) or sex == "" else str(sex)
        nothing = float("nan")
        try:
            if given is not None and given not in SEXES:
                raise UnreadableImage(f"`sex` must be 'female' or 'male'. Received: {given!r}.", reason="unknown_sex")
            radiograph = _read_image(image)
            reading = self._reader.read(radiograph, path=_SENT, sex=settle_sex(radiograph.sex, given, path=_SENT))
        except UnreadableImage as error:
            return nothing, nothing, nothing, False, error.reason
        return reading.bone_age_months, reading.low_months, reading.high_months, True, ""


def _read_image(image: str | bytes) -> Radiograph:
    if isinstance(image, str):
        if os.path.isfile(image):  # noqa: PTH113 - of a whole file in base64, a Path would say that it is too long
            return read_radiograph(image)
        try:
            image = base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError):
            raise UnreadableImage("neither a file nor base64.", reason="missing_file") from None
    return decode_radiograph(bytes(image), path=_SENT)


def _load_pyfunc(data_path: str) -> BoneAgeModel:
    """Load a bundle for MLflow, which looks for a function of this name."""
    return BoneAgeModel(load_reader(data_path))


def write_model(folder: Path, bundle: Path, *, run_id: str | None = None, model_id: str | None = None) -> Path:
    """Write a bundle as a model of MLflow's, with its signature, an example and what it needs installed.

    Args:
        folder: Where it goes.
        bundle: The bundle. In the copy, a path of this machine that its metadata name is the last part alone.
        run_id: MLflow's id of the run that made it.
        model_id: MLflow's id of the model.

    Returns:
        The folder.
    """
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, Schema, TensorSpec

    inputs: list[ColSpec | TensorSpec] = [ColSpec(AnyType(), "image"), ColSpec("string", "sex", required=False)]
    months = [ColSpec("double", name) for name in COLUMNS[:3]]
    outputs: list[ColSpec | TensorSpec] = [*months, ColSpec("boolean", "accepted"), ColSpec("string", "reasons")]
    mlflow.pyfunc.save_model(
        folder,
        loader_module=__name__,
        data_path=str(bundle),
        mlflow_model=Model(run_id=run_id, model_id=model_id),
        signature=ModelSignature(Schema(inputs), Schema(outputs)),
        input_example=_example(),
        pip_requirements=_requirements(),
    )
    metadata = hide_folders(read_metadata(bundle))
    write_json(find_bundle_in(folder) / METADATA_FILE, {**metadata, "seal": seal(metadata)})
    return folder


def find_bundle_in(folder: Path) -> Path:
    """Return the bundle inside a model that `write_model` wrote."""
    return next((folder / "data").glob(f"*/{METADATA_FILE}")).parent


def _example() -> pd.DataFrame:
    """Return a table with a drawn hand."""
    drawn = draw_radiograph(120, sex="female", seed=0, size_px=(160, 128))
    _, encoded = cv2.imencode(".png", drawn.pixels)
    return pd.DataFrame({"image": [base64.b64encode(encoded.tobytes()).decode()], "sex": ["female"]})


def _requirements() -> list[str]:
    """Return what the package needs to predict, and the package itself."""
    needed = importlib.metadata.requires("boneage") or []
    own = f"boneage=={importlib.metadata.version('boneage')}"
    return [own, *(each for each in needed if not re.search(r";.*\bextra\b", each))]
