"""A developer keeps the model loaded in Python, asks it over REST, and runs its network by ONNX Runtime alone."""

import json
import shutil

import pytest

pytestmark = pytest.mark.slow

START, RECORDS = "docs/getting-started.md", "tfrecords/README.md"
CURL = "curl -F files=@1520.png -F sex=female -F chronological_age_months=126 http://127.0.0.1:8000/api/v1/predict"
DRAW = """
from pathlib import Path
from PIL import Image
from boneage.preprocessing.synthetic import draw_radiograph

Path("my-radiographs").mkdir()
hand = Image.fromarray(draw_radiograph(120, sex="female", seed=7).pixels)
for name in ("hand.png", "1520.png", "my-radiographs/hand.png"):
    hand.save(name)
Path("labels.csv").write_text("id,sex,bone_age\\nhand,female,120\\n")
"""
# The network of the included model on a record, by ONNX Runtime and NumPy.
NETWORK = """
import io, json
import boneage, numpy, onnxruntime
from PIL import Image

(record,) = records
session = onnxruntime.InferenceSession(Path(boneage.__file__).parent / "bundles" / "default" / "model.onnx")
_, height, width, _ = session.get_inputs()[0].shape
image = Image.open(io.BytesIO(record.image)).convert("F").resize((width, height), Image.Resampling.BILINEAR)
crop = numpy.asarray(image)[None, :, :, None] / 255
((months,),) = session.run(None, {"image": crop, "male": numpy.zeros((1, 1), numpy.float32)})[0]
print(json.dumps({"record": record.id, "months": float(months)}))
"""
TOLERANCE_MONTHS = 40


@pytest.fixture
def developer(user):
    user.runs(DRAW)
    return user


def test_a_model_stays_loaded(developer):
    told = developer.runs_block(START, "reading.plot()", then="import json; print(json.dumps(reading.bone_age_months))")
    months = json.loads(told.splitlines()[-1])
    assert months == pytest.approx(120, abs=TOLERANCE_MONTHS)
    assert (developer.folder / "reading.png").stat().st_size > 0

    told = developer.runs_block(START, "girl, boy = model.predict", then="print(girl.bone_age_months)")
    assert float(told.splitlines()[-1]) == pytest.approx(months, abs=0.01)

    told = developer.types("boneage predict hand.png --sex female", "--json", page=START).stdout
    (row,) = json.loads(told)
    assert row["bone_age_months"] == pytest.approx(months, abs=0.01)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_rest(developer):
    with developer.serves("boneage serve", page="docs/server.md") as address:
        elsewhere = ("--connect-to", f"::{address.removeprefix('http://')}")
        told = developer.types(CURL, *elsewhere, page="docs/server.md").stdout
    (prediction,) = json.loads(told)
    assert (prediction["file"], prediction["accepted"], prediction["sex"]) == ("1520.png", True, "female")
    assert prediction["bone_age_months"] == pytest.approx(120, abs=TOLERANCE_MONTHS)
    assert prediction["low_months"] < prediction["bone_age_months"] < prediction["high_months"]
    assert prediction["determination"] in ("delayed", "normal", "advanced")


def test_records_and_network_alone(developer):
    line = "boneage prepare my-radiographs/ --table labels.csv --like default --split random --out records/ours"
    developer.types(line, "--out", "records", page="docs/measuring.md")
    made = json.loads(developer.runs_block(RECORDS, "read_frames", then=NETWORK).splitlines()[-1])
    assert made["record"] == "hand"
    told = developer.types("boneage predict hand.png --sex female", "--json", "--tta", "none", page=START).stdout
    (row,) = json.loads(told)
    assert made["months"] == pytest.approx(row["bone_age_months"], abs=0.5)
