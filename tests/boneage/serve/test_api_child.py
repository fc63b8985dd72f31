"""The REST interface about a child: its bone ages over time, its heights."""

import dataclasses

import pytest

from boneage.inference.growth_reference import load_growth_reference
from boneage.serve.child import ToldVisit, follow_visits
from boneage.studies.child_height import load_height_tables

FOLLOW, HEIGHT = "/api/v1/follow", "/api/v1/height"
VISITS = [
    {"chronological_age_months": 107, "bone_age_months": 150, "low_months": 136, "high_months": 164},
    {"chronological_age_months": 84, "bone_age_months": 89, "low_months": 76, "high_months": 102},
]


def test_follow_answers_as_the_function(client):
    told = client.post(FOLLOW, json={"sex": "female", "visits": VISITS, "error_months": 4}).json()
    visits = [ToldVisit(**visit, sex="female") for visit in VISITS]
    course = dataclasses.asdict(follow_visits(visits, reference=load_growth_reference(), error_months=4))
    assert told["reference"].startswith("Brush Foundation")
    for name in ("visits", "steps", "overall", "remarks"):
        assert told[name] == pytest.approx(course[name]) if name == "overall" else told[name] == course[name]
    assert told["overall"]["pace"] == "accelerated" and told["overall"]["is_real"]
    one = client.post(FOLLOW, json={"visits": VISITS[:1]}).json()
    assert one["overall"] is None and one["remarks"][0] == "sex unknown: no reference is shown"


def test_height_answers_what_it_has_tables_for(client, serve, reader, tmp_path):
    (tmp_path / "percents.csv").write_text(
        "sex,maturation,bone_age_months,percent_of_adult_height\nmale,average,96,70\nmale,average,168,90\n"
    )
    child = {"sex": "male", "height_cm": 140, "bone_age_months": 132, "low_months": 120, "high_months": 144}
    child |= {"chronological_age_months": 130, "mother_cm": 165, "father_cm": 178}
    told = client.post(HEIGHT, json=child).json()
    assert (told["target_height_cm"], told["adult_height_cm"]) == (178, None)
    assert told["reasons"][0] == "adult height: this server has no table, --tables"
    client = serve(reader, heights=load_height_tables(tmp_path / "percents.csv"))
    told = client.post(HEIGHT, json=child).json()
    assert told["percent_of_adult_height"] == 80 and told["adult_height_cm"] == 175
    assert told["adult_height_low_cm"] == pytest.approx(140 / 0.8333, abs=0.1)
    assert told["maturation"] == "average"
    assert told["reasons"] == [f"{name}: this server has no table, --{name.lower()}" for name in ("CDC", "WHO")]
    told = client.post(HEIGHT, json={**child, "bone_age_months": 200, "maturation": "average"}).json()
    assert told["adult_height_cm"] is None
    assert told["reasons"][0] == (
        "adult height: bone age 16-8 is outside the table: the table for average boys has bone ages from 8-0 to 14-0"
    )


@pytest.mark.parametrize(
    ("path", "sent", "told"),
    [
        (FOLLOW, {"visits": []}, "`visits`: List should have at least 1 item"),
        (FOLLOW, {"visits": [{"bone_age_months": 5}]}, "`visits.0.chronological_age_months`: Field required."),
        (FOLLOW, {"visits": VISITS, "error_months": 0}, "`error_months`: Input should be greater than 0."),
        (FOLLOW, {"visits": VISITS, "colour": "red"}, "`colour`: Extra inputs are not permitted."),
        (HEIGHT, {"sex": "boy"}, "`sex`: Input should be 'female', 'male' or 'unknown'."),
        (HEIGHT, {"height_cm": 1.4}, "`height_cm`: Input should be greater than or equal to 20."),
        (HEIGHT, [], "`body`: Input should be a valid dictionary"),
    ],
)
def test_wrong_values_are_named_in_one_line(client, path, sent, told):
    response = client.post(path, json=sent)
    assert response.status_code == 422
    assert told in response.json()["detail"] and "\n" not in response.json()["detail"]


def test_bodies_are_small_json(client):
    assert client.post(FOLLOW, content=b"{").status_code == 422
    assert client.post(FOLLOW, content=b" " * 70_000).status_code == 413
    assert client.post(FOLLOW, content=iter([b"{}"])).status_code == 411
    nan = b'{"visits": [{"chronological_age_months": NaN, "bone_age_months": 3}]}'
    response = client.post(FOLLOW, content=nan, headers={"Content-Type": "application/json"})
    assert response.status_code == 422 and "chronological_age_months" in response.json()["detail"]
