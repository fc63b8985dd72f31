import re
import time
import zlib

import numpy as np
import pytest

from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.serve.pool import Pool

PATH = "/api/v1/predict"


def send(client, *files, **fields):
    response = client.post(PATH, files=[("files", file) for file in files], data=fields)
    assert response.status_code == 200, response.text
    return response.json()


def test_answers_every_file_in_order(client, half):
    told = send(client, ("b.png", half), ("text.png", b"no picture"), ("folder/a.png", half), ("no", b""), sex="male")
    assert [answer["file"] for answer in told] == ["b.png", "text.png", "a.png", "no"]
    assert [answer["accepted"] for answer in told] == [True, False, True, False]
    assert told[0]["bone_age_months"] == pytest.approx(60, abs=0.5)
    assert told[0]["low_months"] == pytest.approx(told[0]["bone_age_months"] - 9)
    assert told[0]["model"].startswith("frames (known) ")
    assert told[1]["bone_age_months"] is None
    assert told[1]["reasons"] == ["not_an_image"]
    assert "PNG, JPEG, TIFF or DICOM" in told[1]["detail"]


def test_the_documented_forms_work_and_the_sex_changes_the_answer(client, half):
    described = client.get("/openapi.json").json()
    form = described["paths"][PATH]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert form["schema"]["required"] == ["files"]
    answers = {}
    for name, example in form["examples"].items():
        (answers[name],) = send(client, ("1.png", half), **example["value"])
    assert answers["boy"]["bone_age_months"] - answers["girl"]["bone_age_months"] == pytest.approx(10)
    assert answers["boy"]["difference_months"] == pytest.approx(answers["boy"]["bone_age_months"] - 126, abs=0.01)
    assert answers["unknown"]["warnings"] == ["sex_unknown"]
    assert answers["unknown"]["low_months"] == answers["girl"]["low_months"]
    assert answers["unknown"]["high_months"] == answers["boy"]["high_months"]
    for value in form["schema"]["properties"]["sex"]["enum"]:
        send(client, ("1.png", half), sex=value)
    properties = described["components"]["schemas"]["Prediction"]
    assert all(set(example) == set(properties["properties"]) for example in properties["examples"])
    assert set(answers["boy"]) == set(properties["properties"])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"sex": "femal"}, "`sex` must be female, male or unknown. Received: 'femal'"),
        ({"sex": "male", "age": "3"}, "Received: 'age'"),
        ({"chronological_age_months": "nan"}, "from 0 to 300"),
        ({"chronological_age_months": "-1"}, "from 0 to 300"),
        ({"sex": ["male", "female"]}, "duplicate field `sex`"),
    ],
)
def test_wrong_fields_are_named(client, half, fields, told):
    response = client.post(PATH, files={"files": ("1.png", half)}, data=fields)
    assert response.status_code == 422
    assert told in response.json()["detail"]


def test_wrong_forms_are_refused(client, half):
    assert client.post(PATH, json={"sex": "male"}).status_code == 415
    assert client.post(PATH, files={"file": ("1.png", half)}).status_code == 422
    assert client.post(PATH, files={"files": ("", b"text")}).status_code == 422
    assert client.post(PATH, data={"sex": "male"}, files={"none": ("a", b"")}).status_code == 422
    broken = client.post(PATH, content=b"nothing", headers={"Content-Type": "multipart/form-data"})
    assert broken.status_code == 400


def part(headers, content=b"x", *, boundary=b"b"):
    return b"--" + boundary + b"\r\n" + headers + b"\r\n\r\n" + content + b"\r\n"


FILE_HEADER = b'Content-Disposition: form-data; name="files"; filename="1.png"'
END = b"--b--\r\n"
ODD_FORMS = {
    "no boundary": ("multipart/form-data", part(FILE_HEADER) + END),
    "an endless boundary": (
        f"multipart/form-data; boundary={'b' * 5000}",
        part(FILE_HEADER, boundary=b"b" * 5000) + b"--" + b"b" * 5000 + b"--\r\n",
    ),
    "another boundary": ("multipart/form-data; boundary=c", part(FILE_HEADER) + END),
    "an unknown charset": ("multipart/form-data; boundary=b; charset=none", part(b'Content-Disposition: x"') + END),
    "thousands of fields": (
        "multipart/form-data; boundary=b",
        b"".join(part(f'Content-Disposition: form-data; name="{n}"'.encode()) for n in range(3000)) + END,
    ),
    "thousands of files": ("multipart/form-data; boundary=b", 3000 * part(FILE_HEADER) + END),
    "a header of a megabyte": ("multipart/form-data; boundary=b", part(FILE_HEADER + b"\r\nX: " + b"y" * 10**6) + END),
    "a thousand headers": ("multipart/form-data; boundary=b", part(FILE_HEADER + 1000 * b"\r\nX: y") + END),
    "no header": ("multipart/form-data; boundary=b", part(b"") + END),
    "no name": ("multipart/form-data; boundary=b", part(b"Content-Disposition: form-data") + END),
    "a form in a form": (
        "multipart/form-data; boundary=b",
        part(b"Content-Disposition: form-data; name=files\r\nContent-Type: multipart/mixed; boundary=c") + END,
    ),
    "bytes that are no text": (
        "multipart/form-data; boundary=b",
        part(b'Content-Disposition: form-data; name="\xff"') + END,
    ),
    "an end at once": ("multipart/form-data; boundary=b", END),
    "no end": ("multipart/form-data; boundary=b", part(FILE_HEADER)[:-5]),
}


@pytest.mark.parametrize(("content_type", "body"), ODD_FORMS.values(), ids=ODD_FORMS.keys())
def test_an_odd_form_is_refused_in_one_line(client, content_type, body):
    response = client.post(PATH, content=body, headers={"Content-Type": content_type})
    assert response.status_code in (400, 413, 422), response.text
    assert "\n" not in response.json()["detail"]
    assert len(response.json()["detail"]) < 300


@pytest.mark.parametrize("name", [b"../../etc/1.png", b"C:\\\\1.png", b"a\x00/1.png", b"\xff/1.png"])
def test_a_file_is_answered_by_its_base_name_alone(client, half, name):
    header = b'Content-Disposition: form-data; name="files"; filename="' + name + b'"'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = client.post(PATH, content=part(header, half) + END, headers=headers)
    assert response.status_code == 200, response.text
    assert [answer["file"] for answer in response.json()] == ["1.png"]


def test_sex_of_the_file_and_of_the_request_must_agree(client, write_dicom):
    data = write_dicom(np.tile(np.arange(64, dtype=np.uint8), (64, 1)), PatientSex="F", PatientAge="010Y").read_bytes()
    (told,) = send(client, ("a.dcm", data))
    assert (told["sex"], told["chronological_age_months"]) == ("female", 120)
    (told,) = send(client, ("a.dcm", data), sex="male")
    assert told["reasons"] == ["sex_conflict"]
    assert told["bone_age_months"] is None
    small = write_dicom(np.tile(np.arange(64, dtype=np.uint8), (64, 1)), PatientSex="f").read_bytes()
    (told,) = send(client, ("a.dcm", small), sex="M")
    assert told["reasons"] == ["sex_conflict"]
    odd = write_dicom(np.tile(np.arange(64, dtype=np.uint8), (64, 1)), PatientSex="W").read_bytes()
    (told,) = send(client, ("a.dcm", odd), sex="female")
    assert told["reasons"] == ["sex_unknown"]


def test_age_of_the_file_counts_before_the_one_sent(client, write_dicom):
    data = write_dicom(np.tile(np.arange(64, dtype=np.uint8), (64, 1)), PatientSex="F", PatientAge="010Y").read_bytes()
    (told,) = send(client, ("a.dcm", data), chronological_age_months="30")
    assert told["chronological_age_months"] == 120


def test_a_bomb_is_refused_by_its_header(client, half):
    bomb = bytearray(half)
    bomb[16:24] = (12_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (told, other) = send(client, ("bomb.png", bytes(bomb)), ("1.png", half), sex="male")
    assert told["reasons"] == ["too_large"]
    assert other["accepted"]


class Stub:
    """A reader that does as a test wants."""

    def __init__(self, reader, read):
        self.age_bundle, self.sex_bundle, self.info, self.read = reader.age_bundle, reader.sex_bundle, reader.info, read


def test_what_nobody_expected_fails_one_file_without_a_trace(serve, reader, half, caplog):
    def read(radiograph, **_):
        raise RuntimeError("secret value")

    client = serve(Stub(reader, read))
    (told,) = send(client, ("secret-name.png", half), sex="male")
    assert told["reasons"] == ["internal_error"]
    assert "RuntimeError in test_api.py" in caplog.text
    for kept in (caplog.text, str(told)):
        assert "secret value" not in kept
    assert "secret-name" not in caplog.text


def test_a_reading_that_takes_too_long_is_given_up(serve, reader, half):
    def read(radiograph, **_):
        time.sleep(0.6)
        raise UnreadableImageError("", reason="no_hand")

    client = serve(Stub(reader, read), pool=Pool(num_threads=1, request_seconds=0.2))
    told = send(client, ("1.png", half), ("2.png", half), sex="male")
    assert [answer["reasons"] for answer in told] == [["timed_out"], ["timed_out"]]
    # The thread is still busy with what nobody waits for.
    full = client.post(PATH, files={"files": ("1.png", half)})
    assert (full.status_code, full.headers["Retry-After"]) == (503, "10")


def test_is_ready_once_the_model_was_tried(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    for _ in range(100):
        ready = client.get("/readyz")
        if ready.status_code == 200:
            break
        time.sleep(0.1)
    assert ready.json() == {"status": "ready", "model": ready.json()["model"]}


def test_counts_requests_readings_and_refusals(client, half):
    send(client, ("patient-name.png", half), ("text.png", b"no picture"), sex="male")
    client.get("/readings/nothing")
    text = client.get("/metrics").text
    assert 'boneage_requests_total{method="POST",path="/api/v1/predict",status="200"} 1.0' in text
    assert 'path="/readings/{id}",status="404"' in text
    assert 'boneage_refusals_total{reason="not_an_image"} 1.0' in text
    assert "boneage_readings_total 1.0" in text
    assert re.search(r"^boneage_reading_seconds_count 2\.0", text, re.MULTILINE)
    assert "patient-name" not in text
