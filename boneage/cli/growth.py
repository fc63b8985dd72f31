"""The commands for growth clinics."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from boneage.cli.options import CdcTable, Json, Reference, WhoTables, add_row, make_table, print_json, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from boneage.studies.dose import Dose
    from boneage.studies.follow import FollowUp
    from boneage.studies.progress import Step

# What `dose` shows in the terminal, with its words.
_QUANTITIES = {
    "dose_area_product_dgy_cm2": "dose area product, dGy cm²",
    "exposure_mas": "exposure, mAs",
    "exposure_index": "exposure index",
    "deviation_index": "deviation index",
}
_AREAS = {
    "field_area_mm2": "area of the field, mm²",
    "hand_area_mm2": "area of the hand, mm²",
    "hand_share": "share of the field that is hand",
}
_MAX_LEVEL = 30


def follow(
    predictions: Annotated[
        Path, typer.Argument(help="Predictions, such as `boneage predict --out` writes, or any table with bone ages.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the tables, a figure of each child and the JSON file.", show_default=False)
    ],
    table: Annotated[
        Path | None,
        typer.Option(
            help="CSV or spreadsheet with id, child, and chronological_age_months or date and birth_date "
            "(default: these columns of the predictions)."
        ),
    ] = None,
    radiographs: Annotated[
        Path | None,
        typer.Option(help="Folder of the DICOM files, whose headers tell child and age; children get running numbers."),
    ] = None,
    error: Annotated[
        float | None,
        typer.Option(
            metavar="MONTHS",
            help="Error of one bone age, such as Dahlberg's error of `boneage agree` (default: from each prediction "
            "interval).",
        ),
    ] = None,
    reference: Reference = None,
    as_json: Json = False,
) -> None:
    """Follow children over time: bone age velocity, the smallest change that is real, acceleration."""
    from boneage.studies.follow import follow as run

    follow_up = run(predictions, out=out, table=table, radiographs=radiographs, error_months=error, reference=reference)
    if as_json:
        print_json(dataclasses.asdict(follow_up))
        return
    print_table(_make_table(follow_up))
    typer.echo()
    for line in _list_lines(follow_up):
        typer.echo(line)
    typer.echo(f"written: {out}")


def height(
    children: Annotated[
        Path | None,
        typer.Argument(
            help="CSV or spreadsheet with sex, height_cm and what is known of bone_age_months, "
            "chronological_age_months, mother_cm, father_cm; one row per child.",
            show_default=False,
        ),
    ] = None,
    sex: Annotated[str | None, typer.Option(help="Of one child in place of a table: female or male (or F, M).")] = None,
    height_cm: Annotated[float | None, typer.Option("--height", metavar="CM", help="Its height in cm.")] = None,
    bone_age: Annotated[float | None, typer.Option(metavar="MONTHS", help="Its bone age in months.")] = None,
    age: Annotated[float | None, typer.Option(metavar="MONTHS", help="Its chronological age in months.")] = None,
    maturation: Annotated[
        str | None, typer.Option(help="average, accelerated or retarded (default: by bone age and age).")
    ] = None,
    mother: Annotated[float | None, typer.Option(metavar="CM", help="Height of its mother in cm.")] = None,
    father: Annotated[float | None, typer.Option(metavar="CM", help="Height of its father in cm.")] = None,
    tables: Annotated[
        Path | None,
        typer.Option(
            help="Tables of Bayley and Pinneau: CSV with sex, maturation, bone_age_months, percent_of_adult_height "
            "(default: no adult height)."
        ),
    ] = None,
    cdc: CdcTable = None,
    who: WhoTables = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the table, the figures and the JSON file.")] = None,
    as_json: Json = False,
) -> None:
    """Predict adult height by Bayley-Pinneau; target height of the parents, and scores of the height by CDC and WHO."""
    from boneage.studies.child_height import state_heights
    from boneage.studies.height import height as run
    from boneage.studies.height import to_records

    given = {
        "sex": sex,
        "height_cm": height_cm,
        "bone_age_months": bone_age,
        "chronological_age_months": age,
        "maturation": maturation,
        "mother_cm": mother,
        "father_cm": father,
    }
    child = {name: value for name, value in given.items() if value is not None}
    if (children is None) == (not child):
        raise typer.BadParameter("give a table of children, or --sex, --height and what else is known of one child.")
    heights = run(child if children is None else children, tables=tables, cdc=cdc or (), who=who or (), out=out)
    records = to_records(heights)
    if as_json:
        print_json(records)
        return
    if children is None:
        lines = [f"{name}: {text}" for name, text in state_heights(records[0])]
        for line in lines or ["nothing was asked for: give --tables, --mother and --father, --cdc or --who"]:
            typer.echo(line)
    else:
        print_table(_make_height_table(records))
        for record in records:
            if record["reasons"]:
                typer.echo(f"{record['child']}: {record['reasons']}")
    if out is not None:
        typer.echo(f"written: {out}")


def dose(
    inputs: Annotated[list[Path], typer.Argument(metavar="DICOM...", help="DICOM files and folders of them.")],
    areas: Annotated[
        bool, typer.Option("--areas", help="Also measure the area of the field and of the hand in it; takes longer.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the tables, the figure and the JSON file.")] = None,
    as_json: Json = False,
) -> None:
    """Summarise exposure, dose area product and deviation index by device, age and year, from DICOM headers."""
    from boneage.studies.dose import dose as run
    from boneage.studies.dose import to_report

    found = run(inputs, areas=areas, out=out)
    if as_json:
        print_json(to_report(found))
        return
    for quantity, words in (_QUANTITIES | (_AREAS if areas else {})).items():
        if found.radiographs[quantity].notna().any():
            print_table(_make_dose_table(found, quantity, words))
        else:
            typer.echo(f"{words}: {'of no radiograph' if quantity in _AREAS else 'in no header'}")
        typer.echo()
    typer.echo(_describe_dose(found))
    if out is not None:
        typer.echo(f"written: {out}")


def _make_table(follow_up: "FollowUp") -> "Table":
    table = make_table(
        "From the first to the last radiograph of each child",
        ("Child", "Years", "n", "Months a year, 95%", "Change", "Real from", "Pace"),
    )
    for course in follow_up.courses:
        ages = [visit.chronological_age_months / 12 for visit in course.visits]
        count = str(sum(visit.num_radiographs for visit in course.visits))
        if course.overall is None:
            add_row(table, course.child, f"{ages[0]:.1f}", count, "", "", "", "one visit")
            continue
        step = course.overall
        smallest = "unknown" if step.smallest_change_months is None else f"{step.smallest_change_months:.1f}"
        add_row(
            table,
            course.child,
            f"{ages[0]:.1f}-{ages[-1]:.1f}",
            count,
            _format_velocity(step),
            f"{step.change_months:+.1f}",
            smallest,
            step.pace or "unknown",
        )
    return table


def _list_lines(follow_up: "FollowUp") -> list[str]:
    """List what the table leaves out, one line each."""
    lines = []
    for course in follow_up.courses:
        told = list(course.remarks)
        # The table has the first and the last visit; what happened in between counts as well.
        if len(course.steps) > 1:
            told += [
                f"{step.pace} from {step.from_age_months / 12:.1f} to {step.to_age_months / 12:.1f} years: "
                f"{_format_velocity(step)} months a year"
                for step in course.steps
                if step.pace in ("accelerated", "slowed")
            ]
        lines += [f"{course.child}: {text}" for text in told if not text.startswith("one visit")]
    counts = [f"{follow_up.num_radiographs:,} radiographs of {len(follow_up.courses):,} children"]
    for number, text in (
        (follow_up.num_refused, "without bone age"),
        (follow_up.num_without_child, "without a child"),
        (follow_up.num_without_age, "without chronological age"),
    ):
        if number:
            counts.append(f"{number:,} {text} left out")
    return [*lines, "; ".join(counts)]


def _format_velocity(step: "Step") -> str:
    if step.velocity_low is None:
        return f"{step.velocity:.1f}"
    return f"{step.velocity:.1f} [{step.velocity_low:.1f}, {step.velocity_high:.1f}]"


def _make_height_table(records: list[dict[str, Any]]) -> "Table":
    table = make_table(
        "Heights, cm", ("Child", "Height", "Maturation", "Adult", "by the interval", "Target", "CDC", "WHO")
    )
    for record in records:
        ends = record["adult_height_low_cm"], record["adult_height_high_cm"]
        add_row(
            table,
            str(record["child"]),
            _format_number(record["height_cm"]),
            str(record["maturation"]),
            _format_number(record["adult_height_cm"]),
            "" if ends == (None, None) else f"[{_format_number(ends[0])}, {_format_number(ends[1])}]",
            _format_number(record["target_height_cm"]),
            *(_format_number(record[name], form="+.2f") for name in ("cdc_sds", "who_sds")),
        )
    return table


def _format_number(value: float | None, *, form: str = ".1f") -> str:
    return "" if value is None else f"{value:{form}}"


def _make_dose_table(found: "Dose", quantity: str, words: str) -> "Table":
    table = make_table(words, ("By", "Level", "n", "Missing", "Median", "Quartiles"))
    for row in found.groups[found.groups["quantity"] == quantity].to_dict("records"):
        cells = ("", "") if not row["num"] else (f"{row['median']:.3g}", f"{row['lower']:.3g} to {row['upper']:.3g}")
        counts = (f"{row['num']:,}", f"{row['num_missing']:,}")
        add_row(table, row["group"], row["level"][:_MAX_LEVEL], *counts, *cells)
    return table


def _describe_dose(found: "Dose") -> str:
    """Describe what the tables leave out, in one line."""
    texts = [f"{len(found.radiographs):,} radiographs of {len(found.children):,} children"]
    for number, words in (
        (found.num_without_child, "without a child"),
        (int(found.children["num_repeats"].sum()), "repeats within a study"),
        (found.num_computed, "deviation index computed from exposure index and target"),
        (found.num_contradictory, "deviation index contradicts exposure index and target"),
    ):
        if number:
            texts.append(f"{words}: {number:,}")
    if found.num_rejected:
        texts.append(f"not read: {', '.join(f'{number:,} {reason}' for reason, number in found.num_rejected.items())}")
    return "; ".join(texts)
