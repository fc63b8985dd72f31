"""A researcher has Kaggle's copy of the RSNA radiographs: nested folders, a table of training, no validation set."""

import csv
import json
import shutil

import pytest

pytestmark = pytest.mark.slow

RSNA = "docs/rsna.md"
# Drawn hands in the folders of Kaggle's copy, one of the test set without label, and rows that have no hand to show.
DRAW_KAGGLE = """
from pathlib import Path
import numpy as np
from PIL import Image
from boneage.preprocessing.synthetic import draw_radiograph, write_dataset

rsna = Path("rsna")
write_dataset(rsna, num_images=8, seed=3)
outer = rsna / "boneage-training-dataset"
train, test = outer / outer.name, rsna / "boneage-test-dataset" / "boneage-test-dataset"
train.mkdir()
test.mkdir(parents=True)
for path in outer.glob("*.png"):
    path.rename(train / path.name)
Image.fromarray(draw_radiograph(120, sex="male", seed=5).pixels).save(test / "4360.png")
(rsna / "boneage-test-dataset.csv").write_text("Case ID,Sex\\n4360,M\\n")
Image.fromarray(np.tile(np.linspace(0, 255, 512).astype(np.uint8), (640, 1))).save(train / "901.png")
(train / "902.png").write_bytes(b"cut off by a broken download")
with (rsna / "boneage-training-dataset.csv").open("a") as table:
    table.write("901,120,True\\n902,96,False\\n903,132,False\\n")
"""
# What the researcher reads beside it, and its table of sexes, which is one of labels too.
DRAW_OWN = """
from pathlib import Path
import numpy as np
from PIL import Image
from boneage.preprocessing.synthetic import draw_radiograph

Path("my-radiographs").mkdir()
for name, age, sex in (("girl", 60, "female"), ("boy", 156, "male")):
    Image.fromarray(draw_radiograph(age, sex=sex, seed=7).pixels).save(f"my-radiographs/{name}.png")
Image.fromarray(np.tile(np.linspace(0, 255, 512).astype(np.uint8), (640, 1))).save("my-radiographs/empty.png")
Path("sex.csv").write_text("id,sex\\ngirl,female\\nboy,male\\nempty,male\\n")
Path("labels.csv").write_text("id,sex,bone_age_months\\ngirl,female,60\\nboy,male,156\\nempty,male,120\\n")
"""
# The included model has seen no drawing: its answers for them are this far off at most.
TOLERANCE_MONTHS = 40


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_prepare_kaggles_copy(user):
    user.runs(DRAW_KAGGLE)
    records = user.folder / "records" / "rsna"
    line = "boneage prepare rsna --out records/rsna"
    told = user.types(line, page="README.md").stderr
    assert "has no validation split" in told
    assert "--split random" in told
    # What was made without it is not overwritten in silence.
    told = user.types(line, "--split", "random", page="README.md", status=1).stderr
    assert "records/rsna: already exists" in told
    shutil.rmtree(records)
    told = user.types(line, "--split", "random", page="README.md").stdout
    assert "records/rsna/review/index.html" in told
    assert (records / "review" / "index.html").is_file()

    rejected = {id: row["reason"].split(";")[0] for id, row in read_csv(records / "rejected.csv").items()}
    assert rejected == {"4360": "no_label", "901": "no_hand", "902": "not_an_image", "903": "missing_file"}
    assert all(row["detail"] for row in read_csv(records / "rejected.csv").values())
    info = json.loads((records / "dataset_info.json").read_text(encoding="utf-8"))
    assert {name: split["num_records"] for name, split in info["splits"].items()} == {
        "train": 6,
        "validation": 1,
        "test": 1,
    }
    told = user.types("boneage records records/rsna --verify", page="README.md").stdout
    assert "4 rejected" in told
    assert "verified" in told

    # Training needs more than the core: one line says how to get it, and nothing is begun.
    line = "boneage train rsna_lite0 --data records/rsna --run runs/lite0"
    told = user.types(line, page="README.md", status=1).stderr
    assert told == "boneage: requires tensorflow; install it with: pip install 'boneage[train]'\n"
    assert not (user.folder / "runs").exists()


def test_predict_and_measure_ones_own(user):
    user.runs(DRAW_OWN)
    line = "boneage predict my-radiographs/ --table sex.csv --out predictions.csv --occlusion-maps occlusion"
    told = user.types(line, page="README.md").stdout
    rows = read_csv(user.folder / "predictions.csv")
    for id, age_months in (("girl", 60), ("boy", 156)):
        assert float(rows[id]["bone_age_months"]) == pytest.approx(age_months, abs=TOLERANCE_MONTHS)
        assert float(rows[id]["low_months"]) < float(rows[id]["bone_age_months"]) < float(rows[id]["high_months"])
        assert f"{id}: {float(rows[id]['bone_age_months']):.1f} months" in told
    assert (rows["empty"]["accepted"], rows["empty"]["bone_age_months"]) == ("False", "")
    assert rows["empty"]["reasons"].startswith("no_hand")
    assert rows["empty"]["detail"] in told
    assert {path.stem for path in (user.folder / "occlusion").iterdir()} == {"girl", "boy"}

    line = "boneage evaluate default --files my-radiographs/ --table labels.csv --out measured"
    told = user.types(line, page="docs/measuring.md").stdout
    assert "answered 2 of 3 labelled radiographs" in told
    assert {path.name for path in (user.folder / "measured").iterdir()} == {
        "evaluation.json",
        "evaluation.png",
        "predictions.csv",
    }
    measured = read_csv(user.folder / "measured" / "predictions.csv")
    for id in ("girl", "boy"):
        assert float(measured[id]["predicted_months"]) == pytest.approx(float(rows[id]["bone_age_months"]), abs=0.01)
