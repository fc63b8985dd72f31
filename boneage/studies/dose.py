"""The exposure of radiographs by device, age and year, from DICOM headers; nothing that identifies a person leaves."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from boneage.base.errors import BoneAgeError
from boneage.base.files import check_output, write_json, write_text
from boneage.base.locks import lock_folder
from boneage.base.spreadsheets import format_frame
from boneage.evaluation.conformal import age_band
from boneage.evaluation.metrics import AGE_BANDS_YEARS
from boneage.preprocessing.io.dicom.exposure import read_exposure
from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.sources.listing import RadiographFile, find_radiographs, list_files
from boneage.studies.areas import AREAS, measure_areas
from boneage.studies.dose_plot import plot_dose

RADIOGRAPHS_FILE, GROUPS_FILE, CHILDREN_FILE, REPORT_FILE = "radiographs.csv", "groups.csv", "children.csv", "dose.json"
FIGURE_FILE = "dose.png"
QUANTITIES = (
    "tube_voltage_kv",
    "exposure_mas",
    "dose_area_product_dgy_cm2",
    "entrance_dose_mgy",
    "exposure_index",
    "target_exposure_index",
    "deviation_index",
)
"""What is summarised; with areas, `boneage.studies.areas.AREAS` too."""
UNKNOWN = "unknown"
# Headers state the deviation index to a tenth.
_TOLERANCE = 0.15


class NoExposureError(BoneAgeError):
    """There is no DICOM file to read an exposure from."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dose:
    """Exposures, one row for each radiograph, group and child.

    Args:
        radiographs: `child` (a running number, `""` where unknown), `device`, `year`, `age_years` (to a tenth), `sex`,
            `QUANTITIES`, and the areas if asked for. `deviation_index` is that of the header, or else by exposure index
            and target.
        groups: By `group` (all, device, age, year) and `level`, for each `quantity`: `num`, `num_missing`, `median`,
            and the quartiles `lower` and `upper`.
        children: `child`, `num_radiographs`, `num_studies`, `num_repeats` (further radiographs of one study),
            `num_doses` (radiographs with a dose area product), and their sum `dose_area_product_dgy_cm2`.
        num_without_child: Radiographs of which the header does not say whose they are.
        num_computed: Deviation indices that are computed.
        num_contradictory: Deviation indices that are not those of exposure index and target.
        num_rejected: By reason, files that are no readable DICOM file.
    """

    radiographs: pd.DataFrame
    groups: pd.DataFrame
    children: pd.DataFrame
    num_without_child: int
    num_computed: int
    num_contradictory: int
    num_rejected: dict[str, int]


def dose(inputs: str | Path | Sequence[str | Path], *, areas: bool = False, out: str | Path | None = None) -> Dose:
    """Summarise the exposure of radiographs by device, age and year, and by child, as DICOM headers state it.

    Args:
        inputs: DICOM files and folders of them.
        areas: Whether to read the pixels too, and to measure the area of the field beside that of the hand: a second or
            more for each radiograph.
        out: Folder for `radiographs.csv`, `groups.csv`, `children.csv`, `dose.json` and `dose.png`.

    Returns:
        The exposures. No name, number, date, or file name of a patient is in them.

    Raises:
        BoneAgeError: If an input does not exist, there is no DICOM file, or another process writes `out`.
    """
    if out is not None:
        check_output(Path(out), is_folder=True)
    sources = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    paths = [item for source in sources for item in list_files(Path(source))[0]]
    files, rejections = find_radiographs(paths)
    reasons = Counter(rejection.reason for rejection in rejections)
    rows = []
    for file in files:
        try:
            if file.header is None:
                reasons["no DICOM"] += 1
            else:
                rows.append(_read_row(file, areas=areas))
        except UnreadableImageError as error:
            reasons[error.reason] += 1
    if not rows:
        raise NoExposureError(
            f"{', '.join(map(str, sources))}: contains no readable DICOM file; give DICOM files, or a folder of them."
        )
    frame = pd.DataFrame(rows)
    numbers = {patient: str(number) for number, patient in enumerate(frame["patient"].dropna().unique(), start=1)}
    frame.insert(0, "child", [numbers.get(patient, "") for patient in frame["patient"]])
    by_index = find_deviation_index(frame["exposure_index"], target=frame["target_exposure_index"])
    stated = frame["deviation_index"]
    frame["deviation_index"] = stated.fillna(by_index)
    found = Dose(
        radiographs=frame.drop(columns=["patient", "study"]),
        groups=_summarise(frame, (*QUANTITIES, *(AREAS if areas else ()))),
        children=_sum_children(frame),
        num_without_child=int((frame["child"] == "").sum()),
        num_computed=int((stated.isna() & by_index.notna()).sum()),
        num_contradictory=int(((stated - by_index).abs() > _TOLERANCE).sum()),
        num_rejected=dict(sorted(reasons.items())),
    )
    if out is not None:
        out = Path(out)
        with lock_folder(out):
            for name, table in (
                (RADIOGRAPHS_FILE, found.radiographs),
                (GROUPS_FILE, found.groups),
                (CHILDREN_FILE, found.children),
            ):
                write_text(out / name, format_frame(table, float_format="%.4g"))
            plot_dose(found.radiographs, out / FIGURE_FILE)
            write_json(out / REPORT_FILE, to_report(found))
    return found


def find_deviation_index(exposure_index: pd.Series, *, target: pd.Series) -> pd.Series:
    """Return the deviation index of IEC 62494-1: `10 * log10(exposure_index / target)`.

    Args:
        exposure_index: Exposure indices, above 0; NaN where unknown.
        target: Their targets, above 0; NaN where unknown.
    """
    indices: pd.Series = 10 * np.log10(exposure_index / target)
    return indices


def to_report(found: Dose) -> dict[str, object]:
    """Return what `dose` writes as JSON: groups, children and counts; None where unknown."""
    tables = {
        name: json.loads(getattr(found, name).to_json(orient="records", double_precision=4))
        for name in ("groups", "children")
    }
    counts = {name: getattr(found, name) for name in ("num_without_child", "num_computed", "num_contradictory")}
    return {"num_radiographs": len(found.radiographs), **counts, "num_rejected": found.num_rejected, **tables}


def _read_row(file: RadiographFile, *, areas: bool) -> dict[str, object]:
    """Read the exposure of a file; `patient` and `study` are hashes, which must not be written out."""
    header = file.header
    exposure = dataclasses.asdict(read_exposure(file.path))
    age = header.chronological_age_months if header else None
    return {
        "patient": header.patient if header else None,
        "study": header.study if header else None,
        "device": exposure.pop("device") or UNKNOWN,
        "year": UNKNOWN if exposure["year"] is None else str(exposure["year"]),
        # More digits would reveal the day of birth to whoever knows the day of the study.
        "age_years": np.nan if age is None else round(age / 12, 1),
        "sex": (header.sex if header else None) or "",
        **{name: np.nan if exposure[name] is None else exposure[name] for name in QUANTITIES},
        **(measure_areas(file.path) if areas else {}),
    }


def _summarise(frame: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """Summarise each quantity, of all radiographs and by device, age and year."""
    ages = frame["age_years"].map(lambda years: UNKNOWN if np.isnan(years) else age_band(12 * years))
    groupings = {"all": pd.Series("all", frame.index), "device": frame["device"], "age": ages, "year": frame["year"]}
    rows = []
    for group, levels in groupings.items():
        order = [level for level in AGE_BANDS_YEARS if (levels == level).any()]
        for level in [*order, *sorted(set(levels) - set(order))]:
            own = frame[levels == level]
            for quantity in quantities:
                values = own[quantity].dropna()
                lower, median, upper = values.quantile([0.25, 0.5, 0.75])
                rows.append(
                    {
                        "group": group,
                        "level": level,
                        "quantity": quantity,
                        "num": len(values),
                        "num_missing": len(own) - len(values),
                        "median": median,
                        "lower": lower,
                        "upper": upper,
                    }
                )
    return pd.DataFrame(rows)


def _sum_children(frame: pd.DataFrame) -> pd.DataFrame:
    """Count and sum the radiographs of each child; a file that names no study is a study of its own."""
    columns = ("child", "num_radiographs", "num_studies", "num_repeats", "num_doses", "dose_area_product_dgy_cm2")
    rows = []
    for child, own in frame[frame["child"] != ""].groupby("child", sort=False):
        doses = own["dose_area_product_dgy_cm2"].dropna()
        num_studies = own["study"].nunique() + int(own["study"].isna().sum())
        total = doses.sum() if len(doses) else np.nan
        rows.append((child, len(own), num_studies, len(own) - num_studies, len(doses), total))
    return pd.DataFrame(rows, columns=list(columns))
