"""What can be taken from the page: reports, text, the film of the viewer; and files that are sent one by one."""

import io
import re

import numpy as np
import pydicom
import pytest
from fhir.resources.R4B.observation import Observation
from PIL import Image

ORIGIN = {"Origin": "http://127.0.0.1:8000"}
SECRETS = ("Müller", "Zoë", "PATIENT-4711", "20100203", "2010-02-03")


@pytest.fixture
def study(write_hand):
    return write_hand(ImageLaterality="R").read_bytes()


def find_path(page, name):
    return re.search(rf'(?:href|src)="(/readings/[^"]+/{name})"', page)[1]


def test_reports_of_a_dicom_file_are_downloads(serve, hand_reader, upload, study):
    client = serve(hand_reader)
    page = upload(client, [("hand.dcm", study)])
    for name, modality in (("report.dcm", "SR"), ("capture.dcm", "OT")):
        sent = client.get(find_path(page, name))
        assert sent.headers["Content-Disposition"] == f'attachment; filename="bone_age_{name}"'
        assert sent.headers["Content-Type"] == "application/dicom"
        made = pydicom.dcmread(io.BytesIO(sent.content))
        assert made.Modality == modality and made.StudyInstanceUID == "1.2.3.4" and made.PatientID == "PATIENT-4711"
    pixels = made.pixel_array
    assert ((pixels[..., 1] > 180) & (pixels[..., 0] < 120)).sum() > 1000  # the outline
    sent = client.get(find_path(page, "observation.json"))
    Observation.model_validate(sent.json())
    assert not any(secret in page + sent.text for secret in SECRETS)


def test_a_drawing_has_an_observation_and_no_dicom_objects(serve, hand_reader, upload, drawn_hand, half):
    client = serve(hand_reader)
    page = upload(client, [("hand.png", drawn_hand)], sex="female", age_years="10")
    path = find_path(page, "observation.json")
    Observation.model_validate(client.get(path).json())
    assert "report.dcm" not in page
    assert client.get(path.replace("observation.json", "report.dcm")).status_code == 404
    page = upload(client, [("text.png", b"no picture")])
    assert "observation.json" not in page
    cookies = dict(client.cookies)
    client.cookies.clear()
    assert client.get(path).status_code == 404
    client.cookies.update(cookies)


def test_text_to_copy_says_what_the_page_does(serve, hand_reader, upload, study):
    client = serve(hand_reader)
    page = upload(client, [("secret-name.dcm", study)])
    text = re.search(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)[1]
    assert re.match(r"Bone age: \d+ years? \d+ months? \(\d+ months\)\n", text)
    for name, value in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page):
        assert f"{name}: {value}\n" in text
    assert "Check: Header, letter on the film and thumb disagree about the side" in text
    assert text.endswith("Research use, not a medical device.") and text.isascii()
    assert not any(secret in text for secret in (*SECRETS, "secret-name"))


def test_viewer_shows_film_outline_and_all_that_the_model_saw(serve, hand_reader, upload, study, encode_png):
    client = serve(hand_reader)
    page = upload(client, [("hand.dcm", study)])
    view = client.get(find_path(page, "view")).text
    width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', view).groups())
    film = Image.open(io.BytesIO(client.get(find_path(view, "film.jpg")).content))
    assert film.size == (width, height) and film.mode == "L"
    outline = np.array(re.findall(r"[ML](\d+) (\d+)", re.search(r'<path id="outline" d="([^"]+)"', view)[1]), int)
    assert len(outline) > 50 and (outline < (width, height)).all()
    seen = Image.open(io.BytesIO(client.get(find_path(view, "input.png")).content))
    size = hand_reader.age_bundle.input_size
    assert seen.size == (size, size) and f"{size} x {size} pixels" in view
    wall = encode_png(np.tile(np.linspace(0, 255, 300).astype(np.uint8), (240, 1)))
    page = upload(client, [("wall.png", wall)])
    assert "no bone age" in client.get(find_path(page, "view")).text
    assert client.get(find_path(page, "view").replace("view", "input.png")).status_code in (200, 404)
    page = upload(client, [("text.png", b"no picture")])
    path = re.search(r'href="(/readings/[^"]+)"', page)[1]
    assert "/view" not in page and client.get(f"{path}/view").status_code == 404


def test_files_sent_one_by_one_are_one_batch_in_their_order(client, half):
    batch = ""
    for name, data in (("1.png", half), ("2.png", b"no picture"), ("3.png", half)):
        sent = client.post(f"/files?batch={batch}", files={"files": (name, data)}, data={"sex": "male"}, headers=ORIGIN)
        told = sent.json()
        assert not batch or told["batch"] == batch
        batch = told["batch"]
    assert told["results"] == [{"accepted": True, "text": "5 years 0 months"}]
    page = client.get("/").text
    assert "3 readings" in page
    assert re.findall(r"<h3[^>]*>(.*?)</h3>", page) == ["1.png", "2.png", "3.png"]
    sent = client.post("/files?batch=unknown", files={"files": ("4.png", half)}, headers=ORIGIN)
    assert sent.json()["batch"] not in (batch, "unknown")
    assert "1 reading<" in client.get("/").text
