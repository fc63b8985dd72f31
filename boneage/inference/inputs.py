"""Read whatever `Reader.predict` is given: one radiograph, a list of them, a folder or a table."""

import concurrent.futures
import dataclasses
import functools
import numbers
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from boneage.base.errors import check_choice
from boneage.base.limits import cpu_count
from boneage.base.progress import report_progress
from boneage.base.sex import UnknownSexError, parse_sex
from boneage.configuration.training import TTA_TRANSFORMS
from boneage.inference.drawing import draw_outline_png
from boneage.inference.images import Image
from boneage.inference.reading import Reading
from boneage.inference.rows import COLUMNS, list_table_cases, make_row, rejected_row
from boneage.inference.statements import list_statements
from boneage.preprocessing.io.radiograph import Radiograph
from boneage.preprocessing.sources.listing import SourceNotFoundError
from boneage.preprocessing.sources.rejections import Rejection
from boneage.preprocessing.sources.sources import Case, find_cases

if TYPE_CHECKING:
    from boneage.inference.reader import Reader

Item = TypeVar("Item")
Result = TypeVar("Result")


def predict_input(
    reader: "Reader",
    x: Image | list[Image] | tuple[Image, ...] | pd.DataFrame,
    *,
    sex: str | Sequence[str | None] | None,
    chronological_age_months: float | Sequence[float | None] | None,
    tta: str | None,
) -> Reading | list[Reading] | pd.DataFrame:
    """Read what is given, as `boneage.inference.reader.Reader.predict` documents it."""
    if tta is not None:
        check_choice("tta", tta, tuple(TTA_TRANSFORMS))
    images = list(x) if isinstance(x, list | tuple) else [x]
    sexes = [_parse_sex(item) for item in _spread("sex", sex, len(images))]
    ages = _spread("chronological_age_months", chronological_age_months, len(images))
    if isinstance(x, list | tuple):
        read = functools.partial(_predict_image, reader, tta=tta)
        items = [*zip(images, sexes, ages, strict=True)]
        return _map_threads(lambda item: read(item[0], sex=item[1], age_months=item[2]), items)
    if isinstance(x, pd.DataFrame) or (isinstance(x, str | Path) and Path(x).is_dir()):
        return _predict_many(reader, x, sex=sexes[0], age_months=ages[0], tta=tta)
    return _predict_image(reader, x, sex=sexes[0], age_months=ages[0], tta=tta)


def _predict_image(
    reader: "Reader", image: Image, *, sex: str | None, age_months: float | None, tta: str | None
) -> Reading:
    if isinstance(image, str | Path) and not Path(image).is_file():
        raise SourceNotFoundError(f"{image}: no such file; check the path.")
    radiograph, reading = reader.read_image(image, sex=sex, age_months=age_months, tta=tta)
    return _present(reader, reading, radiograph)


def _present(reader: "Reader", reading: Reading, radiograph: Radiograph | None) -> Reading:
    """Add picture and statements, and leave out what has the size of the radiograph: of many, it fills memory."""
    return dataclasses.replace(
        reading,
        hand=None,
        part=None,
        other=reading.other and _present(reader, reading.other, radiograph),
        picture=None if radiograph is None else draw_outline_png(reading.part or radiograph, reading.hand),
        statements=tuple(list_statements(reading, metadata=reader.age_bundle.metadata, with_age=True))
        if reading.accepted
        else (),
    )


def _predict_many(
    reader: "Reader", source: str | Path | pd.DataFrame, *, sex: str | None, age_months: float | None, tta: str | None
) -> pd.DataFrame:
    if isinstance(source, pd.DataFrame):
        cases = list_table_cases(source, sex=sex)
    else:
        found, rejections = find_cases(source)
        cases = [*found, *rejections]
    given = None if isinstance(source, pd.DataFrame) else sex

    def make(case: Case | Rejection) -> dict[str, object]:
        if isinstance(case, Rejection):
            return rejected_row(case.id, file=case.file, reasons=case.reason, detail=case.detail)
        if case.chronological_age_months is None:
            case = dataclasses.replace(case, chronological_age_months=age_months)
        return make_row(case.id, reader.read_case(case, sex=given, tta=tta)[1], file=case.name)

    frame = pd.DataFrame(_map_threads(make, cases), columns=list(COLUMNS))
    if isinstance(source, pd.DataFrame):
        return frame.set_index(source.index)
    return frame.sort_values(["id", "file"], kind="stable", ignore_index=True)


def _map_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Call a function for each item, on all cores: the networks and the decoders run outside the interpreter's lock."""
    results: list[Result] = []
    with (
        concurrent.futures.ThreadPoolExecutor(max(1, min(cpu_count(), len(items)))) as threads,
        report_progress(None, "Reading") as report,
    ):
        for result in threads.map(function, items):
            results.append(result)
            report(len(results), len(items))
    return results


def _parse_sex(sex: Any) -> str | None:
    """Parse the sex of one radiograph.

    Raises:
        ValueError: If it is not understood.
    """
    if sex is None:
        return None
    try:
        return parse_sex(str(sex))
    except UnknownSexError as error:
        raise ValueError(f"`sex`: {error}.") from error


def _spread(name: str, value: Any, num_images: int) -> list[Any]:
    """Return a value for each image: the same for all, or one of a list each.

    Raises:
        ValueError: If the list has another length.
    """
    if value is None or isinstance(value, str | numbers.Real):
        return [value] * num_images
    if len(value) != num_images:
        raise ValueError(f"`{name}` must be one value, or one for each of {num_images} images. Received: {len(value)}.")
    return list(value)
