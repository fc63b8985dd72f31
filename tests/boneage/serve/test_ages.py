"""Ages by years and months, by months, and by two dates, of which nothing but the age is kept."""

import logging

import pytest

from boneage.serve.ages import PAGE_AGE, REST_AGE, parse_years_and_months
from boneage.web.requests import RequestError

ORIGIN = {"Origin": "http://127.0.0.1:8000"}


@pytest.mark.parametrize(
    ("fields", "months"),
    [
        ({}, None),
        ({"age_years": "9", "age_months": "6"}, 114),
        ({"age_years": "9"}, 108),
        ({"age_months": "18"}, 18),
        ({"age_years": "0", "age_months": "0"}, 0),
        ({"birth_date": "2010-02-03", "film_date": "2020-02-03"}, 120),
        ({"birth_date": "2010-02-03", "film_date": "2020-02-02"}, 119),
        ({"birth_date": "2012-02-29", "film_date": "2013-02-28"}, 11),
        ({"birth_date": "2010-02-03", "film_date": "2010-02-03"}, 0),
    ],
)
def test_page_age_in_months(fields, months):
    assert PAGE_AGE.parse(fields) == months


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"age_years": "9.5"}, "chronological age, years: must be a whole number from 0 to 25. Received: '9.5'."),
        ({"age_years": "9", "age_months": "12"}, "chronological age, months: must be a whole number from 0 to 11."),
        ({"age_months": "-1"}, "chronological age, months: must be a whole number from 0 to 300."),
        ({"age_years": "25", "age_months": "1"}, "chronological age: at most 25 years. Received: 25 years 1 months."),
        ({"age_years": "9", "birth_date": "2010-02-03", "film_date": "2020-02-03"}, "or two dates, not both"),
        ({"birth_date": "2010-02-03"}, "the birth date and the date of the radiograph are both needed"),
        ({"birth_date": "3.2.2010", "film_date": "2020-02-03"}, "birth date: write year, month and day"),
        ({"birth_date": "2010-02-03", "film_date": "2020-02-30"}, "date of the radiograph: write year, month and day"),
        ({"birth_date": "2020-02-04", "film_date": "2020-02-03"}, "up to 25 years later; correct one of the dates"),
        ({"birth_date": "1920-02-04", "film_date": "2020-02-03"}, "up to 25 years later; correct one of the dates"),
    ],
)
def test_page_age_wrong_is_one_line_without_the_dates(fields, told):
    with pytest.raises(RequestError) as caught:
        PAGE_AGE.parse(fields)
    assert told in caught.value.message and "\n" not in caught.value.message
    assert not any(date in caught.value.message for date in ("2010", "3.2.", "1920"))


def test_years_and_months_are_named_in_the_error():
    assert parse_years_and_months("", "", name="bone age 2") is None
    with pytest.raises(RequestError, match="bone age 2, years"):
        parse_years_and_months("x" * 99, "", name="bone age 2")
    with pytest.raises(RequestError, match="bone age 2, months"):
        parse_years_and_months("", "9" * 5000, name="bone age 2")


def test_rest_age_in_months():
    assert REST_AGE.parse({"chronological_age_months": "126,5"}) == 126.5
    assert REST_AGE.parse({}) is None


def test_the_birth_date_is_nowhere(serve, reader, upload, half, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    client = serve(reader, save_readings=tmp_path)
    page = upload(client, [("1.png", half)], sex="male", birth_date="2014-06-17", film_date="2024-06-20")
    assert "10 years 0 months" in page
    wrong = client.post(
        "/",
        files=[("files", ("1.png", half))],
        data={"birth_date": "2014-06-17", "film_date": "x"},
        headers={**ORIGIN, "Accept": "text/html"},
    )
    assert wrong.status_code == 422
    stored = "".join(path.read_bytes().decode("latin-1") for path in tmp_path.iterdir())
    for text in (page, wrong.text, client.get("/readings.csv").text, client.get("/metrics").text, stored, caplog.text):
        assert "2014" not in text and "06-17" not in text
