"""What is told of a child on the page: earlier readings, films of one upload, heights; and what follows from it."""

import csv
import html
import io
import re

import pytest

from boneage.inference.growth_reference import load_growth_reference
from boneage.serve.chart import draw_chart
from boneage.serve.child import FIELDS, Child, ToldVisit, follow_answers, follow_visits, parse_child
from boneage.serve.readings import Answer
from boneage.studies.child_height import load_height_tables
from boneage.studies.follow import follow
from boneage.studies.height import height
from boneage.web.requests import RequestError

ORIGIN = {"Origin": "http://127.0.0.1:8000", "Accept": "text/html"}
REFERENCE = load_growth_reference()


def answer(age, bone_age, *, half=12.0, sex="female"):
    return Answer(
        file="1.png",
        accepted=True,
        bone_age_months=bone_age,
        low_months=bone_age - half,
        high_months=bone_age + half,
        sex=sex,
        chronological_age_months=age,
    )


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Tables of round numbers that are nobody's: Bayley and Pinneau's, and one of height for age."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "percents.csv").write_text(
        "sex,maturation,bone_age_months,percent_of_adult_height\n"
        "male,average,48,50\nmale,average,96,80\nmale,retarded,48,45\nmale,retarded,96,75\n"
    )
    (folder / "cdc.csv").write_text("Sex,Agemos,L,M,S\n1,24,1,85,0.04\n1,240,1,175,0.04\n")
    return folder


def test_parse_child_reads_every_field():
    fields = {"age_0_years": "8", "bone_0_years": "8", "bone_0_months": "2", "age_11_months": "90"}
    fields |= {"bone_11_years": "7", "one_child": "1", "error_months": "3,5", "height_cm": "140.5"}
    assert parse_child(fields) == Child(((96, 98), (90, 84)), True, 3.5, 140.5)
    assert parse_child(dict.fromkeys(FIELDS, "")) == Child()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"age_1_years": "8"}, "earlier reading 2: give both the chronological age and the bone age."),
        ({"bone_0_months": "8"}, "earlier reading 1: give both"),
        ({"bone_0_months": "x"}, "earlier reading 1, bone age, months: must be a whole number from 0 to 300."),
        ({"error_months": "0"}, "error of one bone age: must be a number from 0.1 to 60. Received: '0'."),
        ({"height_cm": "1.40"}, "height: must be a number from 20 to 280. Received: '1.40'."),
        ({"mother_cm": "nan"}, "height of the mother: must be a number"),
    ],
)
def test_parse_child_refuses_in_one_line(fields, told):
    with pytest.raises(RequestError) as caught:
        parse_child(fields)
    assert told in caught.value.message


@pytest.mark.parametrize("error_months", [None, 4.0])
def test_follow_visits_is_that_of_the_command(tmp_path, error_months):
    visits = [(84, 89, 76, 102), (95, 103, 90, 116), (107, 150, 136, 164), (107, 152, 138, 166)]
    rows = "".join(f"A,female,{','.join(map(str, visit))}\n" for visit in visits)
    header = "child,sex,chronological_age_months,bone_age_months,low_months,high_months\n"
    (tmp_path / "visits.csv").write_text(header + rows)
    (course,) = follow(tmp_path / "visits.csv", out=tmp_path / "out", error_months=error_months).courses
    told = [ToldVisit(*map(float, visit), "female") for visit in reversed(visits)]
    found = follow_visits(told, reference=REFERENCE, error_months=error_months)
    assert (found.visits, found.steps, found.overall) == (course.visits, course.steps, course.overall)
    assert found.remarks == course.remarks and len(found.visits) == 3
    assert [step.pace for step in found.steps][-1] == "accelerated"


def test_follow_answers_takes_other_films_only_of_one_child():
    others = [answer(60.0, 62.0), answer(None, 62.0)]
    alone = follow_answers(answer(120.0, 118.0), Child(), others=others, reference=REFERENCE)
    assert len(alone.visits) == 1 and alone.overall is None
    child = Child(earlier=((90.0, 88.0),), is_one_child=True)
    course = follow_answers(answer(120.0, 118.0), child, others=others, reference=REFERENCE)
    assert [visit.chronological_age_months for visit in course.visits] == [60, 90, 120]
    assert course.remarks == ["no interval: the error of a change is unknown; give the error of one bone age"]
    assert follow_answers(answer(None, 118.0), child, others=others, reference=REFERENCE) is None
    boy = follow_answers(answer(120.0, 118.0, sex="male"), child, others=others, reference=REFERENCE)
    assert "is this one child?" in boy.remarks[0]


def draw(*visits, sex="female"):
    course = follow_visits([ToldVisit(*visit, sex=sex) for visit in visits], reference=REFERENCE, error_months=4)
    return draw_chart(course, REFERENCE, this_age_months=visits[-1][0])


def find_points(text):
    return [tuple(map(float, pair.split(","))) for pair in text.split()]


def test_draw_chart_shows_the_bands_of_the_reference_at_its_place():
    chart = draw((96.0, 96.0), (120.0, 150.0, 138.0, 162.0))
    assert list(chart.bands) == [2, 1] and chart.reference.startswith("Brush Foundation")
    this, (x_year, _), (y_year, year) = chart.dots[-1], chart.x_ticks[0], chart.y_ticks[0]
    per_month = (chart.y_ticks[1][0] - y_year) / (chart.y_ticks[1][1] - year) / 12
    healthy = REFERENCE.at(120.0, sex="female")
    nearest = min(find_points(chart.median), key=lambda point: abs(point[0] - this.x))
    assert nearest[1] == pytest.approx(y_year + per_month * (healthy.median_months - 12 * year), abs=3)
    assert this.y == pytest.approx(y_year + per_month * (150 - 12 * year), abs=1)
    assert (this.low - this.high) == pytest.approx(-24 * per_month, abs=1)
    assert [dot.is_this for dot in chart.dots] == [False, True] and chart.dots[0].low is None
    assert chart.steps[0][1]  # 54 months in 24
    assert x_year > 0 and "10 years 0 months" in chart.summary and "over the bands of" in chart.summary


def test_draw_chart_has_no_bands_without_sex_and_beyond_the_table():
    for chart in (draw((120.0, 118.0), sex=None), draw((298.0, 230.0))):
        assert chart.bands == {} and chart.median == chart.reference == "" and "bands" not in chart.summary
    last = REFERENCE.rows["female"][-1, 0]
    assert draw((last + 6, 200.0)).bands  # at the ages before it


def test_draw_chart_stays_in_the_picture():
    chart = draw((0.0, 0.0, 0.0, 5.0), (300.0, 238.0, 180.0, 240.0))
    assert chart.dots[-1].is_open and not chart.dots[0].is_open
    places = [place for text in (*chart.bands.values(), chart.median, chart.identity) for place in find_points(text)]
    places += [(dot.x, end) for dot in chart.dots for end in (dot.y, dot.low, dot.high)]
    assert all(40 <= x <= 412 and 8 <= y <= 288 for x, y in places)
    assert 3 <= len(chart.x_ticks) <= 9 and 3 <= len(chart.y_ticks) <= 9


def tell(client, page, place=0, **fields):
    path = re.findall(r'action="(/readings/[^"]+/child)"', page)[place]
    sent = client.post(path, data=fields, headers=ORIGIN)
    assert sent.status_code == 303, sent.text
    assert sent.headers["Location"] == f"/#course-{path.split('/')[2]}"
    return client.get("/").text


def test_page_follows_earlier_readings_and_the_films_of_one_upload(serve, reader, upload, half):
    client = serve(reader)
    assert "course" not in upload(client, [("1.png", half)], sex="male")
    batch = ""
    for name, age in (("new.png", "6"), ("old.png", "3"), ("ageless.png", "")):
        fields = {"sex": "male", "age_years": age}
        sent = client.post(f"/files?batch={batch}", files={"files": (name, half)}, data=fields, headers=ORIGIN)
        batch = sent.json()["batch"]
    page = client.get("/").text
    assert page.count('class="chart"') == 2 and page.count("/child") == 2
    assert "Changes of the bone age" not in page and "one visit" not in page
    page = tell(client, page, age_0_years="4", bone_0_years="3", bone_0_months="6", one_child="1", error_months="3")
    assert page.count("Changes of the bone age") == 1
    assert "6 years 0 months" in page and "1 of the other films left out: without chronological age" in page
    assert re.search(r"3 years 0 months to 4 years 0 months</th><td>-18\.0, real</td><td>8\.3</td>", page)
    assert ">accelerated</strong>" not in page and "slowed" in page
    assert 'name="bone_0_years" type="number" min="0" max="25" value="3"' in page
    assert 'name="one_child" value="1" checked' in page
    report = client.get(re.search(r'href="(/readings/[^"/]+)"', page)[1]).text
    assert "Changes of the bone age" in report and "/child" not in report
    page = tell(client, page, age_0_years="5", bone_0_years="2", error_months="3")
    assert ">accelerated</strong>" in page and 'class="step accelerated"' in page


def test_page_shows_no_heights_without_tables(client, upload, half):
    page = upload(client, [("1.png", half)], sex="male", age_years="5")
    assert "height_cm" not in page and "adult height" not in page


def test_page_and_report_show_heights(serve, reader, upload, half, tables):
    heights = load_height_tables(tables / "percents.csv", cdc=tables / "cdc.csv")
    client = serve(reader, heights=heights)
    page = upload(client, [("1.png", half), ("text.png", b"no picture")], sex="male", age_years="5", age_months="0")
    assert "adult height" not in page and page.count("height_cm") == 1
    page = tell(client, page, height_cm="110", mother_cm="165", father_cm="178")
    rows = {row["file"]: row for row in csv.DictReader(io.StringIO(client.get("/readings.csv").text))}
    bone_age = float(rows["1.png"]["bone_age_months"])
    (found,) = height(
        {"sex": "male", "height_cm": 110, "bone_age_months": bone_age, "chronological_age_months": 60, "mother_cm": 165}
        | {"father_cm": 178},
        tables=tables / "percents.csv",
        cdc=tables / "cdc.csv",
    ).to_dict("records")
    report = client.get(re.search(r'href="(/readings/[^"/]+)"', page)[1]).text
    for text in (page, report):
        assert f"<dd>{found['adult_height_cm']:.1f} cm ({found['percent_of_adult_height']:.1f}% of it reached;" in text
        assert "<dt>Target height</dt><dd>178.0 cm, 169.5 to 186.5</dd>" in text
        assert f"<dd>{found['cdc_sds']:+.2f}</dd>" in text
    copied = html.unescape(re.search(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)[1])
    assert f"Predicted adult height: {found['adult_height_cm']:.1f} cm" in copied and copied.isascii()


def test_page_says_why_a_height_is_unknown(serve, reader, upload, half, tables):
    client = serve(reader, heights=load_height_tables(tables / "percents.csv", cdc=tables / "cdc.csv"))
    page = tell(client, upload(client, [("1.png", half)], sex="male"), height_cm="110", mother_cm="165")
    assert "<dt>Adult height</dt><dd>unknown: chronological age, or the maturation</dd>" in page
    assert "<dt>Target height</dt><dd>unknown: height of the father</dd>" in page
    page = tell(client, upload(client, [("1.png", half)], sex="female", age_years="4"), height_cm="110")
    assert (
        "<dt>Adult height</dt><dd>bone age 4-2 is outside the table: there is no table for average girls</dd>" in page
    )
    assert "the CDC table has no girls" in page


def test_what_is_told_survives_reading_again_and_leaves_with_the_session(client, upload, half):
    page = upload(client, [("1.png", half)], sex="male", age_years="5")
    page = tell(client, page, age_0_years="4", bone_0_years="4")
    path = re.search(r'action="(/readings/[^"]+)/again"', page)[1]
    client.post(f"{path}/again", data={"sex": "female", "age_years": "6"}, headers=ORIGIN)
    page = client.get("/").text
    assert "4 years 0 months to 6 years 0 months" in page
    assert "No interval: the error of a change is unknown; give the error of one bone age." in page
    wrong = client.post(f"{path}/child", data={"age_0_years": "4"}, headers=ORIGIN)
    assert wrong.status_code == 422 and "earlier reading 1: give both" in wrong.text
    client.post("/forget", headers=ORIGIN)
    assert client.post(f"{path}/child", data={}, headers=ORIGIN).status_code == 404
