import csv
import io
import json
import logging
import re

import numpy as np
import pytest

from boneage.inference.messages import REASONS, explain_reasons, format_age, format_difference
from boneage.preprocessing.decisions import REASON_MESSAGES
from boneage.serve.history import History
from boneage.serve.readings import Answer
from boneage.serve.store import StoreError
from boneage.serve.uploads import clean_name

ORIGIN = {"Origin": "http://127.0.0.1:8000"}
NAME, NUMBER, BORN = "Zwetschgenbaum^Ottilie", "PATIENT-4711", "20100203"


def pictures(client, page):
    return [client.get(path) for path in re.findall(r'<img src="([^"]+)"', page)]


def test_a_drawn_hand_is_read(serve, hand_reader, upload, drawn_hand):
    client = serve(hand_reader)
    page = upload(
        client, [("hand.png", drawn_hand), ("text.png", b"no picture")], sex="female", age_years="9", age_months="6"
    )
    assert "2 readings" in page
    assert re.search(r"<strong>\d+ years? \d+ months?</strong>", page)
    assert "9 years 6 months" in page
    assert re.search(r"\d+ months? (ahead|behind)", page)
    assert "not an image of a known format" in page
    assert "Not a medical device" in page
    assert "mean absolute error on validation 7.2 months" in page
    assert "hands (known)" in page
    radiograph, crop = pictures(client, page)
    assert radiograph.headers["Content-Type"] == "image/jpeg"
    assert crop.content.startswith(b"\x89PNG")
    occlusion_map = client.get(re.search(r'src="([^"]+/occlusion.png)"', page)[1])
    assert occlusion_map.content.startswith(b"\x89PNG") and occlusion_map.content != crop.content
    report = client.get(re.search(r'href="(/readings/[^"]+)"', page)[1]).text
    assert "hand.png" in report
    assert re.search(r"Standard deviation score</dt><dd>[+-]\d+\.\d by Brush Foundation", report)
    assert re.search(r"Determination</dt><dd>(delayed|normal|advanced)<", report)
    assert "thumb lies right: taken for a left hand" in report
    assert "do not base a diagnosis or treatment" in report


def test_an_image_without_a_hand_is_shown_with_its_reasons(serve, hand_reader, upload, encode_png):
    wall = encode_png(np.tile(np.linspace(0, 255, 300).astype(np.uint8), (240, 1)))
    client = serve(hand_reader)
    page = upload(client, [("wall.png", wall)], sex="male")
    assert "No bone age" in page
    assert not re.search(r"<strong>\d+ years", page)
    assert pictures(client, page)[0].status_code == 200
    assert "occlusion.png" not in page
    radiograph = re.search(r'src="(/readings/[^/]+)/radiograph.jpg"', page)[1]
    assert client.get(f"{radiograph}/occlusion.png").status_code == 404


def test_a_hostile_name_is_only_a_name(client, upload, half):
    page = upload(client, [('<script>alert("x")</script>&.png', half)], sex="male")
    assert "<script>alert" not in page
    assert "&amp;.png" in page
    page = upload(client, [('=HYPERLINK("x").png', half)], sex="male")
    table = client.get("/readings.csv").text
    assert table.startswith("file,")
    assert "\n'=HYPERLINK" in table.replace('"', "").replace("\n=", "\n!")


def test_names_are_cut_to_what_a_name_is():
    assert clean_name("C:\\users\\a\\b.png") == "b.png"
    assert clean_name("../../etc/passwd") == "passwd"
    assert clean_name("a\r\nSet-Cookie: x\x00.png") == "aSet-Cookie: x.png"
    assert len(clean_name("a" * 500 + ".png")) == 120
    assert clean_name("a" * 500 + ".png").endswith(".png")


def test_history_is_that_of_the_session_and_downloads(client, serve, reader, upload, half):
    upload(client, [("first.png", half)], sex="male", age_years="5")
    page = upload(client, [("second.png", half), ("text.png", b"no picture")], sex="female")
    assert page.index("second.png") < page.index("text.png") < page.index("first.png")
    answer = client.get("/readings.csv")
    assert answer.headers["Content-Disposition"].startswith("attachment")
    rows = {row["file"]: row for row in csv.DictReader(io.StringIO(answer.text))}
    assert next(iter(rows)) == "first.png"
    assert float(rows["first.png"]["difference_months"]) == pytest.approx(0, abs=0.5)
    assert rows["text.png"]["reasons"] == "not_an_image"
    assert rows["text.png"]["bone_age_months"] == ""
    path = re.search(r'src="(/readings/[^"]+)"', page)[1]
    assert client.get(path).status_code == 200
    cookies = dict(client.cookies)
    client.cookies.clear()
    assert client.get(path).status_code == 404
    assert "first.png" not in client.get("/").text
    assert client.get("/readings.csv").text.count("\n") == 1
    client.cookies.update(cookies)
    client.post("/forget", headers=ORIGIN)
    client.cookies.update(cookies)
    assert client.get(path).status_code == 404


def test_the_cookie_is_for_this_site_and_no_script(client, half):
    assert "Set-Cookie" not in client.get("/").headers
    cookie = client.post("/", files={"files": ("1.png", half)}, headers=ORIGIN).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie


def test_history_is_bounded():
    history = History(max_entries=3, max_sessions=2, idle_seconds=3600)
    session = history.open(is_authenticated=True)
    history.add([Answer(file=str(number), accepted=False) for number in range(5)], session=session)
    assert [entry.answer.file for entry in history.list_entries(session)] == ["2", "3", "4"]
    history.open(is_authenticated=False)
    history.open(is_authenticated=False)
    assert history.find(session) is None
    assert history.list_entries(session) == []
    idle = History(idle_seconds=-1.0)
    assert not idle.is_authenticated(idle.open(is_authenticated=True))


def test_a_problem_is_a_page_for_people(client):
    # What a browser sends where no file was chosen.
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename=""\r\n\r\n\r\n--x--\r\n'
    headers = {**ORIGIN, "Accept": "text/html", "Content-Type": "multipart/form-data; boundary=x"}
    told = client.post("/", content=form, headers=headers)
    assert told.status_code == 422
    assert "no file received" in told.text
    assert "<h1>Error" in told.text
    assert "page not found" in client.get("/nowhere", headers={"Accept": "text/html"}).text


@pytest.mark.parametrize("damaged", [False, True])
def test_nothing_of_a_patient_is_shown_or_logged(serve, reader, upload, write_dicom, caplog, tmp_path, damaged):
    caplog.set_level(logging.DEBUG)
    pixels = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    identity = {"PatientName": NAME, "PatientID": NUMBER, "PatientBirthDate": BORN, "StudyDate": "20200317"}
    data = write_dicom(pixels, PatientSex="F", PatientAge="bad" if damaged else "010Y", **identity).read_bytes()
    if damaged:
        data = data[: len(data) // 2]
    client = serve(reader, save_readings=tmp_path / "store")
    page = upload(client, [("IM0001", data)])
    answers = [page, client.get("/readings.csv").text, client.get("/metrics").text, caplog.text]
    answers.append(client.post("/api/v1/predict", files={"files": ("IM0001", data)}).text)
    answers += [picture.content.decode("latin-1") for picture in pictures(client, page)]
    answers += [path.read_bytes().decode("latin-1") for path in (tmp_path / "store").iterdir()]
    if not damaged:
        assert "10 years 1 month" in page
        answers.append(client.get(re.search(r'href="(/readings/[^"]+)"', page)[1]).text)
    for secret in (*NAME.split("^"), NUMBER, BORN, "2010-02-03"):
        assert not any(secret in answer for answer in answers)


def test_nothing_is_stored_unless_asked(serve, reader, upload, half, encode_png, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    large = np.random.default_rng(0).integers(0, 256, (1500, 1500), np.uint8)
    opened = []
    monkeypatch.setattr("tempfile.TemporaryFile", lambda *_, **__: opened.append(1) or pytest.fail("rolled over"))
    upload(serve(reader), [("1.png", half), ("large.png", encode_png(large))], sex="male")
    assert list(tmp_path.iterdir()) == []
    assert not opened


def test_stores_crops_and_lines_without_names(serve, reader, upload, half, tmp_path):
    folder = tmp_path / "store"
    upload(serve(reader, save_readings=folder), [("secret-name.png", half), ("text.png", b"no picture")], sex="male")
    lines = [json.loads(line) for line in (folder / "readings.jsonl").read_text().splitlines()]
    assert [line["accepted"] for line in lines] == [True, False]
    assert lines[0]["bone_age_months"] == pytest.approx(60, abs=0.5)
    assert {path.name for path in folder.iterdir()} == {"readings.jsonl", lines[0]["crop"]}
    assert (folder.stat().st_mode & 0o777, (folder / "readings.jsonl").stat().st_mode & 0o777) == (0o700, 0o600)
    assert "secret-name" not in str(lines)
    with pytest.raises(StoreError, match="--save-readings"):
        serve(reader, save_readings=folder / "readings.jsonl")


@pytest.mark.parametrize("place", ["before the line", "in the line", "after the line"])
def test_a_killed_server_leaves_no_crop_without_a_line_and_no_line_without_a_crop(
    serve, reader, upload, half, tmp_path, place
):
    folder = tmp_path / "store"
    upload(serve(reader, save_readings=folder), [("1.png", half), ("2.png", half)], sex="male")
    lines, crops = folder / "readings.jsonl", sorted(folder.glob("*.png"))
    first, last = lines.read_bytes().splitlines(keepends=True)
    killed = folder / json.loads(last)["crop"]
    killed.rename(f"{killed}.part")
    lines.write_bytes(first + {"before the line": b"", "in the line": last[:9], "after the line": last}[place])
    upload(serve(reader, save_readings=folder), [("3.png", half)], sex="male")
    told = {json.loads(line)["crop"] for line in lines.read_text().splitlines()}
    assert told == {path.name for path in folder.iterdir()} - {"readings.jsonl"}
    assert len(told) == 2 + (place == "after the line")
    assert set(crops) <= set(folder.iterdir()) or place != "after the line"


def test_a_reading_that_finds_no_room_leaves_nothing(serve, reader, upload, half, tmp_path, monkeypatch):
    folder = tmp_path / "store"
    client = serve(reader, save_readings=folder)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("boneage.serve.store.append_line", fail)
        assert "months" in upload(client, [("1.png", half)], sex="male")
    assert [path.name for path in folder.iterdir()] == ["readings.jsonl"]
    assert (folder / "readings.jsonl").read_bytes() == b""


def test_every_reason_has_words():
    assert set(REASON_MESSAGES) - {"rejected_by_reviewer"} <= set(REASONS)
    assert explain_reasons(["made_up"]) == "Rejected (made_up)."
    assert explain_reasons([]) == ""


def test_what_may_be_no_hand_is_said_first():
    text = explain_reasons(["cut_off", "bad_mask", "unsure_orientation"])
    assert text.startswith("This may not be a hand radiograph") and "cuts off" in text


def test_ages_and_differences_are_said():
    assert format_age(125.6) == "10 years 6 months"
    assert format_age(12.6) == "1 year 1 month"
    assert format_age(11.9) == "1 year 0 months"
    assert format_difference(-13.2) == "1 year 1 month behind"
    assert format_difference(0.7) == "1 month ahead"
    assert format_difference(0.2) == "no difference"
