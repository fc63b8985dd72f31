"""Prediction from raw files: the bundle's own preprocessing, then the network, every file answered for."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from boneage.bundle import DEFAULT_BUNDLE, Bundle, BundleError, load_bundle
from boneage.config import build
from boneage.views import VIEWS
from preprocessing.pipeline import PreprocessingConfig, fingerprint, process
from preprocessing.radiograph import UnreadableImage
from preprocessing.read import read_radiograph
from preprocessing.sources import Case, find_cases
from tfrecords.errors import BoneAgeError, check_choice
from tfrecords.schema import SEXES, male_from_sex
from tfrecords.write import write_text

COLUMNS = ("id", "bone_age_months", "sex", "accepted", "reasons", "file", "detail")
BATCH_SIZE = 16


class PredictionError(BoneAgeError):
    """A request for predictions that cannot be met as a whole."""


def predict(
    inputs: str | Path | Sequence[str | Path],
    *,
    bundle: str | Path | None = None,
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
        sex: Sex of all the children, `"female"` or `"male"`; DICOM files bring their own.
        table: CSV or spreadsheet with `id,male` or `id,sex`, instead of `sex`.
        views: `"one"`, `"mirrored"` or `"ten"` looks at each radiograph; what the bundle names without it.
        out: CSV to write.
        progress: Called with the number of finished and of all files.

    Returns:
        One row for each file, and for each row of the table without a file: `id`, `bone_age_months` (NaN where not
        accepted), `sex`, `accepted`, `reasons` (codes), `file`, `detail` (one line that names the fix).

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
    loaded = load_bundle(DEFAULT_BUNDLE if bundle is None else bundle)
    config = preprocessing_of(loaded)
    cases, rejections = find_cases(inputs, table=table)
    rows = [_row(each.id, file=each.file, reasons=each.reason, detail=each.detail) for each in rejections]
    answered = _predict_cases(cases, loaded, config, sex=sex, views=views)
    for finished, row in enumerate(answered, start=1):
        rows.append(row)
        if progress:
            progress(finished, len(cases))
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(["id", "file"], kind="stable", ignore_index=True)
    if out is not None:
        try:
            write_text(Path(out), frame.to_csv(index=False, float_format="%.2f"))
        except OSError as error:
            raise PredictionError(f"{out}: {error.strerror}; name another file by --out.") from error
    return frame


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


def _predict_cases(
    cases: Sequence[Case], bundle: Bundle, config: PreprocessingConfig, *, sex: str | None, views: str | None
) -> Iterator[dict[str, object]]:
    """Yield one row for each case; radiographs are held in memory only batch by batch."""
    for start in range(0, len(cases), BATCH_SIZE):
        images: list[np.ndarray] = []
        males: list[list[float]] = []
        rows: list[dict[str, object]] = []
        for case in cases[start : start + BATCH_SIZE]:
            try:
                image, found = _prepare_case(case, bundle, config, sex=sex)
            except UnreadableImage as error:
                rows.append(_row(case.id, file=case.path.name, reasons=error.reason, detail=str(error)))
                continue
            rows.append(_row(case.id, file=case.path.name, sex=found, accepted=True))
            images.append(image)
            # A network without a sex input is never shown this value.
            males.append([male_from_sex(found) if found else 0.0])
        if images:
            months = bundle.predict_batch(np.stack(images), np.array(males, np.float32), views=views)
            answered = (row for row in rows if row["accepted"])
            for row, answer in zip(answered, months, strict=True):
                row["bone_age_months"] = float(answer)
        yield from rows


def _prepare_case(
    case: Case, bundle: Bundle, config: PreprocessingConfig, *, sex: str | None
) -> tuple[np.ndarray, str | None]:
    radiograph = read_radiograph(case.path)
    found = case.sex or radiograph.sex
    if sex and found and sex != found:
        raise UnreadableImage(
            f"{case.path.name}: the header says {found}, the request {sex}; find out which is right.",
            reason="sex_conflict",
        )
    found = found or sex
    if found is None and bundle.metadata["use_sex"]:
        raise UnreadableImage(f"{case.path.name}: the sex is not known; give it by --sex or --table.", reason="no_sex")
    return bundle.fit(process(radiograph, config, path=case.path).image), found


def _row(
    id: str, *, file: str, sex: str | None = None, accepted: bool = False, reasons: str = "", detail: str = ""
) -> dict[str, object]:
    return {
        "id": id,
        "bone_age_months": float("nan"),
        "sex": sex or "",
        "accepted": accepted,
        "reasons": reasons,
        "file": file,
        "detail": detail,
    }
