"""The chronological age as forms give it: in months, as years and months, or by two dates.

A birth date is used for the age in whole months and then dropped. No error quotes it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import date

from boneage.web.requests import RequestError, parse_number

MAX_AGE_MONTHS = 300.0
MAX_AGE_YEARS = 25


@dataclasses.dataclass(frozen=True)
class AgeForm:
    """The fields of a form that give an age.

    Args:
        fields: Their names.
        parse: Returns the age in months of what they hold, None where all are blank; raises RequestError.
    """

    fields: tuple[str, ...]
    parse: Callable[[Mapping[str, str]], float | None]


def parse_years_and_months(years: str, months: str, *, name: str) -> float | None:
    """Parse an age given as whole years and months; months alone may be more than eleven.

    Args:
        years: The years as typed, blank if not given.
        months: The months as typed.
        name: What the age is of, named in errors.

    Returns:
        The age in months; None where both are blank.

    Raises:
        RequestError: If one is no whole number or outside its limits.
    """
    if not years and not months:
        return None
    most = 11 if years else int(MAX_AGE_MONTHS)
    found = 12.0 * _whole(years, most=MAX_AGE_YEARS, name=f"{name}, years") if years else 0.0
    found += _whole(months, most=most, name=f"{name}, months") if months else 0
    if found > MAX_AGE_MONTHS:
        raise RequestError(422, f"{name}: at most {MAX_AGE_YEARS} years. Received: {years} years {months} months.")
    return found


def _whole(text: str, *, most: int, name: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text[:9]) > most:
        raise RequestError(422, f"{name}: must be a whole number from 0 to {most}. Received: {text[:40]!r}.")
    return int(text)


def _parse_page(fields: Mapping[str, str]) -> float | None:
    years, months, born, taken = (fields.get(name, "") for name in PAGE_AGE.fields)
    age = parse_years_and_months(years, months, name="chronological age")
    if not born and not taken:
        return age
    if age is not None:
        raise RequestError(422, "chronological age: give years and months, or two dates, not both.")
    if not born or not taken:
        raise RequestError(422, "chronological age: the birth date and the date of the radiograph are both needed.")
    first, last = _parse_date(born, name="birth date"), _parse_date(taken, name="date of the radiograph")
    # Whole months: more digits would, with the day of the radiograph, reveal the birth date.
    whole = 12 * (last.year - first.year) + last.month - first.month - (last.day < first.day)
    if not 0 <= whole <= MAX_AGE_MONTHS:
        raise RequestError(
            422,
            f"chronological age: the radiograph must be of the birth date or up to {MAX_AGE_YEARS} years later; "
            "correct one of the dates.",
        )
    return float(whole)


def _parse_date(text: str, *, name: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise RequestError(422, f"{name}: write year, month and day, such as 2024-03-31.") from None


def _parse_months(fields: Mapping[str, str]) -> float | None:
    (field,) = REST_AGE.fields
    months = parse_number(fields.get(field, ""), name=f"`{field}`", low=0, high=MAX_AGE_MONTHS)
    return None if months is None else round(months, 2)


PAGE_AGE = AgeForm(("age_years", "age_months", "birth_date", "film_date"), _parse_page)
"""The fields of the page: years and months, or the birth date and the date of the radiograph."""
REST_AGE = AgeForm(("chronological_age_months",), _parse_months)
"""The field of the REST interface: months."""
