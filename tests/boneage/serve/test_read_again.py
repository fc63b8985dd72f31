"""A film that is read again with another sex or age, by what the server keeps of it."""

import json
import re

import pytest

from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.serve.history import History
from boneage.serve.readings import Answer, Upload, read_again, read_upload

ORIGIN = {"Origin": "http://127.0.0.1:8000", "Accept": "text/html"}


def find_again(page):
    return re.search(r'action="(/readings/[^"]+/again)"', page)[1]


def send_again(client, page, **fields):
    sent = client.post(find_again(page), data=fields, headers=ORIGIN)
    assert sent.status_code == 303, sent.text
    assert sent.headers["Location"] == "/#reading-" + find_again(page).split("/")[2]
    return client.get("/").text


@pytest.mark.parametrize("sex", ["female", "male", None])
def test_read_again_answers_as_if_sent_anew(hand_reader, drawn_hand, sex):
    first = read_upload(hand_reader, Upload("1.png", drawn_hand, "female", 100.0))
    again = read_again(hand_reader, first, sex=sex, chronological_age_months=120.0)
    anew = read_upload(hand_reader, Upload("1.png", drawn_hand, sex, 120.0))
    for name in ("bone_age_months", "low_months", "high_months", "sex", "sds", "warnings", "statements", "by_sex"):
        assert getattr(again, name) == getattr(anew, name)
    assert again.picture == first.picture and again.film is first.film
    assert not again.kept.contradicts_header


def test_read_again_refuses_what_was_rejected(reader):
    with pytest.raises(ValueError, match="must be accepted"):
        read_again(reader, read_upload(reader, Upload("1.png", b"")), sex=None, chronological_age_months=None)


def test_page_replaces_the_answer(serve, hand_reader, upload, drawn_hand, tmp_path):
    client = serve(hand_reader, save_readings=tmp_path)
    page = upload(client, [("1.png", drawn_hand)], sex="female", age_years="9", age_months="7")
    assert re.search(r'value="female" checked', page[page.index("again") :])
    assert 'name="age_years" type="number" min="0" max="25" value="9"' in page
    assert 'name="age_months" type="number" min="0" max="300" value="7"' in page
    page = send_again(client, page, sex="male", age_years="11")
    assert "1 reading<" in page and "<dd>male, as given</dd>" in page and "<dd>11 years 0 months</dd>" in page
    page = send_again(client, page, sex="unknown", birth_date="2010-05-01", film_date="2020-05-01")
    assert "<dd>10 years 0 months</dd>" in page and "for both sexes" in page
    stored = [json.loads(line)["sex"] for line in (tmp_path / "readings.jsonl").read_text().splitlines()]
    assert stored == ["female", "male", None]


def test_page_refuses_in_one_line(serve, reader, upload, half, monkeypatch):
    client = serve(reader)
    path = find_again(upload(client, [("1.png", half)], sex="male"))
    for fields, status, told in (
        ({"sex": "boy"}, 422, "`sex` must be female, male or unknown"),
        ({"age_years": "x"}, 422, "chronological age, years"),
        ({"colour": "red"}, 422, "unknown or duplicate field. Received: &#39;colour&#39;"),
        ({"sex": ["male", "female"]}, 422, "unknown or duplicate field"),
        ({"sex": "m" * 9000}, 413, "request body too large"),
    ):
        sent = client.post(path, data=fields, headers=ORIGIN)
        assert (sent.status_code, told in sent.text) == (status, True), sent.text
    assert client.post(path, json={}, headers=ORIGIN).status_code == 415
    many = "&".join(f"sex{number}=1" for number in range(200))
    headers = {**ORIGIN, "Content-Type": "application/x-www-form-urlencoded"}
    assert client.post(path, content=many, headers=headers).status_code == 400

    def fail(*_, **__):
        raise UnreadableImageError("1.png: 999 months", reason="impossible_answer")

    monkeypatch.setattr("boneage.serve.service.read_again", fail)
    sent = client.post(path, data={"sex": "male"}, headers=ORIGIN)
    assert sent.status_code == 422 and "outside 0 to 20 years" in sent.text


def test_page_says_that_the_film_is_gone(serve, reader, upload, half):
    client = serve(reader)
    page = upload(client, [("1.png", half), ("text.png", b"no picture")], sex="male")
    assert page.count("/again") == 1
    path = find_again(page)
    client.post("/forget", headers=ORIGIN)
    sent = client.post(path, data={"sex": "male"}, headers=ORIGIN)
    assert sent.status_code == 410
    assert "no longer on the server" in sent.text and "choose the file again" in sent.text


def test_history_replaces_what_it_still_has():
    history = History(max_entries=1)
    session = history.open(is_authenticated=False)
    history.add([Answer(file="1", accepted=False)], session=session)
    (entry,) = history.list_entries(session)
    history.replace(entry.id, answer=Answer(file="2", accepted=False))
    assert history.get(entry.id, session=session).answer.file == "2"
    history.add([Answer(file="3", accepted=False)], session=session)
    history.replace(entry.id, answer=Answer(file="4", accepted=False))
    assert [kept.answer.file for kept in history.list_entries(session)] == ["3"]


def test_what_the_header_contradicts_has_a_warning_and_no_dicom_report(serve, hand_reader, upload, write_hand):
    client = serve(hand_reader)
    page = upload(client, [("hand.dcm", write_hand().read_bytes())])
    report = re.search(r'href="(/readings/[^"]+/report.dcm)"', page)[1]
    page = send_again(client, page, sex="male", age_years="10", age_months="0")
    assert "other than in the header of the file" in page and "report.dcm" not in page
    assert "this reading contradicts its header" in page
    assert client.get(report).status_code == 404
    assert client.get(report.replace("report.dcm", "observation.json")).status_code == 200
    assert "PATIENT-4711" not in page
    page = send_again(client, page, sex="female", age_years="10", age_months="0")
    assert "other than in the header" not in page and client.get(report).status_code == 200


def test_a_hand_of_two_is_read_again_alone(serve, hand_reader, upload, both_hands, encode_png, tmp_path):
    client = serve(hand_reader, save_readings=tmp_path)
    page = upload(client, [("both.png", encode_png(both_hands))], sex="female")
    page = send_again(client, page, sex="male")
    assert page.count("<dd>male, as given</dd>") == page.count("<dd>female, as given</dd>") == 1
    assert page.count("Left and right are told by the thumbs") >= 2
    assert len((tmp_path / "readings.jsonl").read_text().splitlines()) == 3
