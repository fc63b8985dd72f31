"""Prediction from raw files: the bundle's own preprocessing, then the network, every file answered for."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from boneage.bundle import DEFAULT_BUNDLE, DEFAULT_SEX_BUNDLE, Bundle, BundleError, load_bundle
from boneage.config import build
from boneage.views import VIEWS
from preprocessing.pipeline import PreprocessingConfig, fingerprint, process
from preprocessing.radiograph import UnreadableImage
from preprocessing.read import read_radiograph
from preprocessing.sources import Case, find_cases
from tfrecords.errors import BoneAgeError, check_choice
from tfrecords.schema import SEXES, male_from_sex
from tfrecords.write import write_text

COLUMNS = ("id", "bone_age_months", "sex", "accepted", "reasons", "warnings", "male_share", "file", "detail")
# How sure the image must be of the other sex before the recorded one is called into question.
SEX_DOUBT_SHARE = 0.95


class PredictionError(BoneAgeError):
    """A request for predictions that cannot be met as a whole."""


def predict(
    inputs: str | Path | Sequence[str | Path],
    *,
    bundle: str | Path | None = None,
    sex_bundle: str | Path | None = None,
    sex: str | None = None,
    table: str | Path | None = None,
    views: str | None = None,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Predict bone age from radiograph files.

    Args:
        inputs: Files and folders.
        bundle: Folder of the trained bundle; the one that ships with the package without it.
        sex_bundle: Folder of a bundle that tells the sex, to warn where the recorded one looks wrong and to answer
            where it is not known; the one that ships beside the packaged bundle where that is used.
        sex: Sex of all the children, `"female"` or `"male"`; DICOM files bring their own.
        table: CSV or spreadsheet with `id,male` or `id,sex`, instead of `sex`.
        views: `"one"`, `"mirrored"` or `"ten"` looks at each radiograph; what the bundle names without it.
        out: CSV to write.
        progress: Called with the number of finished and of all files.

    Returns:
        One row for each file, and for each row of the table without a file: `id`, `bone_age_months` (NaN where not
        accepted), `sex`, `accepted`, `reasons` (codes), `warnings` (`sex_looks_wrong`, `sex_from_image`), `male_share`
        (the probability of a boy, NaN without a network that tells it), `file`, `detail` (one line that names the fix).

    Raises:
        BoneAgeError: If the inputs or the table are not there, or the bundle is damaged or cannot be reproduced.
        ValueError: If `sex` is neither, both `sex` and `table` are given, or `views` is unknown.
    """
    if sex is not None and sex not in SEXES:
        raise ValueError(f"`sex` must be 'female' or 'male'. Received: {sex!r}.")
    if sex is not None and table is not None:
        raise ValueError("give `sex` or `table`, not both: the table tells the sex of each child.")
    if views is not None:
        check_choice("views", views, tuple(VIEWS))
    if bundle is None and sex_bundle is None and DEFAULT_SEX_BUNDLE.exists():
        sex_bundle = DEFAULT_SEX_BUNDLE
    models = _load_models(DEFAULT_BUNDLE if bundle is None else bundle, sex_bundle, sex=sex, views=views)
    cases, rejections = find_cases(inputs, table=table)
    rows = [_row(each.id, file=each.file, reasons=each.reason, detail=each.detail) for each in rejections]
    for finished, case in enumerate(cases, start=1):
        rows.append(_answer(case, models))
        if progress:
            progress(finished, len(cases))
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(["id", "file"], kind="stable", ignore_index=True)
    if out is not None:
        try:
            write_text(Path(out), frame.to_csv(index=False, float_format="%.2f"))
        except OSError as error:
            raise PredictionError(f"{out}: {error.strerror}; name another file by --out.") from error
    return frame


def _load_models(bundle: str | Path, sex_bundle: str | Path | None, *, sex: str | None, views: str | None) -> "_Models":
    age = load_bundle(bundle)
    if age.metadata["task"] != "age":
        raise BundleError(f"{bundle}: tells the sex; name a bundle for bone age, and this one by --sex-bundle.")
    teller = None if sex_bundle is None else load_bundle(sex_bundle)
    if teller is not None and teller.metadata["task"] != "sex":
        raise BundleError(f"{sex_bundle}: tells no sex; train one with task = 'sex'.")
    if teller is not None and teller.metadata["fingerprint"] != age.metadata["fingerprint"]:
        raise BundleError(f"{sex_bundle}: wants other preprocessing than {bundle}; train both on the same records.")
    return _Models(age, teller, preprocessing_of(age), sex, views)


def preprocessing_of(bundle: Bundle) -> PreprocessingConfig:
    """Return the preprocessing that a bundle was trained on.

    Raises:
        BundleError: If this version of the package would prepare other pixels than the bundle was trained on.
    """
    config = build(PreprocessingConfig, bundle.metadata["preprocessing"], where=f"{bundle.folder} preprocessing")
    if fingerprint(config) != bundle.metadata["fingerprint"]:
        raise BundleError(
            f"{bundle.folder}: trained on pixels preprocessed as {bundle.metadata['fingerprint']}, this version makes "
            f"{fingerprint(config)}; install boneage {bundle.metadata['boneage_version']} or train again."
        )
    return config


@dataclasses.dataclass(frozen=True)
class _Models:
    """What answers for a radiograph: the bundles, their preprocessing, and what the request says."""

    age: Bundle
    sex: Bundle | None
    config: PreprocessingConfig
    requested_sex: str | None
    views: str | None


def _answer(case: Case, models: _Models) -> dict[str, object]:
    """Return the row of one radiograph."""
    try:
        radiograph = read_radiograph(case.path)
        sex = case.sex or radiograph.sex
        asked = models.requested_sex
        if sex and asked and sex != asked:
            raise UnreadableImage(
                f"{case.path.name}: the header says {sex}, the request {asked}; find out which is right.",
                reason="sex_conflict",
            )
        sex = sex or asked
        if sex is None and models.age.metadata["use_sex"] and models.sex is None:
            raise UnreadableImage(
                f"{case.path.name}: the sex is not known; give it by --sex or --table.", reason="no_sex"
            )
        image = process(radiograph, models.config, path=case.path).image
    except UnreadableImage as error:
        return _row(case.id, file=case.path.name, reasons=error.reason, detail=str(error))
    row = _row(case.id, file=case.path.name, accepted=True)
    if models.sex is not None:
        # A network without a sex input is never shown the value given here.
        male_share = float(models.sex.predict_batch(models.sex.fit(image)[None], np.zeros((1, 1), np.float32))[0])
        row["male_share"] = male_share
        if sex is None:
            sex, row["warnings"] = "male" if male_share > 0.5 else "female", "sex_from_image"
        elif (1 - male_share if sex == "male" else male_share) > SEX_DOUBT_SHARE:
            row["warnings"] = "sex_looks_wrong"
    male = np.array([[male_from_sex(sex) if sex else 0.0]], np.float32)
    row["bone_age_months"] = float(models.age.predict_batch(models.age.fit(image)[None], male, views=models.views)[0])
    row["sex"] = sex or ""
    return row


def _row(id: str, *, file: str, accepted: bool = False, reasons: str = "", detail: str = "") -> dict[str, object]:
    return {
        "id": id,
        "bone_age_months": float("nan"),
        "sex": "",
        "accepted": accepted,
        "reasons": reasons,
        "warnings": "",
        "male_share": float("nan"),
        "file": file,
        "detail": detail,
    }
