"""An atlas of one's own radiographs: by sex and age class, the one whose readings lie nearest the median."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from boneage.base.errors import BoneAgeError, printable
from boneage.base.files import check_output, write_text
from boneage.base.locks import lock_folder
from boneage.base.sex import UnknownSexError, parse_sex
from boneage.base.spreadsheets import format_frame
from boneage.evaluation.plots import INK, make_figure, save_figure
from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.sources.sources import find_cases
from boneage.studies.readings import read_readings
from boneage.studies.reference_plot import CHILDREN
from boneage.tfrecords.schema import SEXES

ATLAS_FILE = "atlas.csv"
CLASS_YEARS = 1
"""Years of bone age of a class."""
MIN_READERS = 2
_PER_LINE, _MAX_ID = 6, 22
_SHOWN_PERCENT = (1, 99)


class AtlasError(BoneAgeError):
    """Readings or radiographs of which no atlas can be made."""


@dataclasses.dataclass(frozen=True, eq=False)
class Atlas:
    """The plates of an atlas.

    Args:
        plates: By `sex` and `age_years` (the class, from that bone age up to a year more): `id`, `bone_age_months`
            (mean of the readers), `num_readers`, `distance_months` (root mean square distance of their readings from
            the median of the class), `median_months`, and `num_radiographs` to choose from.
        num_left_out: Radiographs that could not be chosen: of one reader, of unknown sex, without a file, or whose file
            cannot be read.
    """

    plates: pd.DataFrame
    num_left_out: int


def reference_atlas(readings: str | Path, radiographs: str | Path, *, out: str | Path) -> Atlas:
    """Choose the radiographs of an atlas: by sex and year of bone age, the one that is most typical by its readers.

    The bone age of a radiograph is the mean of its readers, and that of a class the median of its radiographs. Chosen
    is the radiograph whose readings have the smallest root mean square distance from that median: it is small only if
    the readers agree, and on the median.

    Args:
        readings: Table of readings with the column `sex`, see `boneage.studies.readings.read_readings`.
        radiographs: Folder of the radiographs.
        out: Folder for `atlas.csv`, and a sheet for each sex, `atlas-female.png`.

    Returns:
        The plates.

    Raises:
        BoneAgeError: If the table or the folder cannot be used, or another process writes `out`.
    """
    check_output(Path(out), is_folder=True)
    table = read_readings(readings)
    if "sex" not in table:
        raise AtlasError(f"{readings}: needs a column sex: boys and girls have plates of their own.")
    table["sex"] = table["id"].map(_find_sexes(table, path=readings))
    num_all = table["id"].nunique()
    paths = {case.id: case.path for case in find_cases(radiographs)[0]}
    if not table["id"].isin(set(paths)).any():
        raise AtlasError(f"{radiographs}: no file has the id of a reading; the ids of both must be the same.")
    means = table[(table["sex"] != "") & table["id"].isin(set(paths))].groupby(["sex", "id", "reader"])["months"].mean()
    of_readers = means.groupby(["sex", "id"]).agg(["mean", "count"]).query("count >= @MIN_READERS").reset_index()
    unreadable: set[str] = set()
    pixels: dict[str, np.ndarray] = {}
    rows = []
    for (sex, years), own in of_readers.groupby(["sex", of_readers["mean"] // (12 * CLASS_YEARS) * CLASS_YEARS]):
        median = own["mean"].median()
        squares = (means.loc[sex].loc[own["id"]] - median) ** 2
        distances = np.sqrt(squares.groupby("id").mean()).sort_values(kind="stable")
        for id, distance in distances.items():
            try:
                pixels[str(id)] = read_radiograph(paths[str(id)]).pixels
            except UnreadableImageError:
                unreadable.add(str(id))
                continue
            chosen = own.set_index("id").loc[id]
            rows.append(
                {
                    "sex": sex,
                    "age_years": int(years),
                    "id": id,
                    "bone_age_months": chosen["mean"],
                    "num_readers": int(chosen["count"]),
                    "distance_months": distance,
                    "median_months": median,
                    "num_radiographs": len(own),
                }
            )
            break
    if not rows:
        raise AtlasError(f"{readings}: no radiograph was read by {MIN_READERS} readers, has a sex and can be read.")
    atlas = Atlas(pd.DataFrame(rows), num_left_out=num_all - of_readers["id"].nunique() + len(unreadable))
    out = Path(out)
    with lock_folder(out):
        write_text(out / ATLAS_FILE, format_frame(atlas.plates, float_format="%.2f"))
        for sex in SEXES:
            plates = atlas.plates[atlas.plates["sex"] == sex]
            if len(plates):
                _draw_sheet(plates, pixels, CHILDREN[sex], out / f"atlas-{sex}.png")
    return atlas


def to_report(atlas: Atlas) -> dict[str, object]:
    """Return what `boneage reference atlas --json` prints."""
    return {"plates": atlas.plates.round(2).to_dict("records"), "num_left_out": atlas.num_left_out}


def _find_sexes(table: pd.DataFrame, *, path: str | Path) -> dict[str, str]:
    """Find the sex of each radiograph, by id; empty where no reading states it.

    Raises:
        AtlasError: If a cell is not understood, or readings of a radiograph state both sexes.
    """
    sexes: dict[str, str] = {}
    for id, cell in zip(table["id"], table["sex"], strict=True):
        try:
            sex = parse_sex(cell) or ""
        except UnknownSexError as error:
            raise AtlasError(f"{path}: a reading of {id}: sex {error}.") from error
        if sex and sexes.get(id, sex) not in ("", sex):
            raise AtlasError(f"{path}: readings of {id} state both sexes; correct one.")
        sexes[id] = sex or sexes.get(id, "")
    return sexes


def _draw_sheet(plates: pd.DataFrame, pixels: dict[str, np.ndarray], title: str, path: Path) -> None:
    """Draw the plates of one sex in the order of their age."""
    num_lines = -(-len(plates) // _PER_LINE)
    num_columns = min(_PER_LINE, len(plates))
    figure = make_figure(width_inches=max(4.0, 2.2 * num_columns), height_inches=0.5 + 3.1 * num_lines)
    panels = np.ravel(figure.subplots(num_lines, num_columns, squeeze=False))
    for axes in panels:
        axes.set_axis_off()
    for axes, plate in zip(panels, plates.to_dict("records"), strict=False):
        _draw_plate(axes, pixels[str(plate["id"])], plate)
    figure.suptitle(f"{title}: bone age in years", fontweight="bold")
    save_figure(figure, path)


def _draw_plate(axes: Axes, pixels: np.ndarray, plate: dict[str, object]) -> None:
    # As many pixels as a sheet shows.
    step = max(1, max(pixels.shape) // 600)
    shown = pixels[::step, ::step]
    low, high = np.percentile(shown, _SHOWN_PERCENT)
    axes.imshow(shown, cmap="gray", vmin=low, vmax=max(high, low + 1))
    name = printable(str(plate["id"]))[:_MAX_ID].replace("$", r"\$")
    months = float(str(plate["bone_age_months"]))
    axes.set_title(f"{months / 12:.1f} ({plate['num_readers']} readers)\n{name}", fontsize=9, color=INK)
