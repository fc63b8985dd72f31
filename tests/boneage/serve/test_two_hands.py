"""A film of two hands on the page and in the REST interface: each hand has its own answer and its own picture."""

import csv
import io
import json
import re

import cv2
import numpy as np
import pytest


@pytest.fixture
def film(both_hands, encode_png):
    return encode_png(both_hands)


def test_rest_tells_the_left_hand_and_the_right_one_in_it(serve, hand_reader, film):
    client = serve(hand_reader)
    sent = {"data": {"sex": "female", "chronological_age_months": "120"}}
    (told,) = client.post("/api/v1/predict", files=[("files", ("both.png", film))], **sent).json()
    assert (told["accepted"], told["hand"], told["warnings"]) == (True, "left", ["two_hands"])
    right = told["right_hand"]
    assert right["bone_age_months"] == pytest.approx(told["bone_age_months"], abs=6)
    assert right["difference_months"] == pytest.approx(right["bone_age_months"] - 120, abs=0.01)
    assert right["interval"] == f"{right['low_months']:.1f} to {right['high_months']:.1f} months"
    documented = client.get("/openapi.json").json()["components"]["schemas"]["RightHand"]["properties"]
    assert set(right) == set(documented)


def test_page_shows_each_hand_with_its_own_picture(serve, hand_reader, film, upload, both_hands, tmp_path):
    client = serve(hand_reader, save_readings=tmp_path)
    page = upload(client, [("both.png", film)], sex="female")
    assert re.findall(r"<h3[^>]*>(.*)</h3>", page) == ["both.png, left hand", "both.png, right hand"]
    assert len(re.findall(r'class="warning">.*Left and right are told by the thumbs', page)) == 2
    radiographs = [client.get(path).content for path in re.findall(r'src="([^"]+radiograph.jpg)"', page)]
    widths = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[1] for data in radiographs]
    assert radiographs[0] != radiographs[1]
    assert sum(widths) == both_hands.shape[1]
    reports = [client.get(path).text for path in re.findall(r'href="(/readings/[^"/]+)"', page)]
    assert ["right hand" in report for report in reports if "hand" in report] == [False, True]
    rows = list(csv.DictReader(io.StringIO(client.get("/readings.csv").text)))
    assert sorted((row["file"], row["hand"]) for row in rows) == [("both.png", "left"), ("both.png", "right")]
    stored = [json.loads(line) for line in (tmp_path / "readings.jsonl").read_text().splitlines()]
    assert [line["hand"] for line in stored] == ["left", "right"]
    assert len({line["crop"] for line in stored}) == 2
