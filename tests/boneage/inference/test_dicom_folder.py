"""The hospital's way: a folder of DICOM files and a table of readings, to records and to predictions."""

import csv
import json

import keras
import numpy as np
import pytest

from boneage.bundles.save import save_bundle
from boneage.inference.predict import predict
from boneage.preprocessing.jobs.prepare import prepare
from boneage.preprocessing.synthetic import draw_radiograph
from boneage.tfrecords.framing import read_frames
from boneage.tfrecords.schema import decode
from boneage.tfrecords.verify import verify

NAME, NUMBER, BORN = "Zwetschgenbaum^Ottilie", "PATIENT-4711", "20100203"


@pytest.fixture
def hospital(tmp_path, write_dicom):
    """Twelve DICOM files of six patients, every second one inverted, and readings by SOPInstanceUID."""
    folder = tmp_path / "dicom"
    folder.mkdir()
    with (tmp_path / "readings.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["sop_instance_uid", "boneage"])
        for number in range(12):
            sex = "female" if number % 2 else "male"
            pixels = draw_radiograph(60 + 10 * number, sex=sex, seed=number, size_px=(120, 96)).pixels
            inverted = number % 2 == 0
            path = write_dicom(
                255 - pixels if inverted else pixels,
                PhotometricInterpretation="MONOCHROME1" if inverted else "MONOCHROME2",
                SOPInstanceUID=f"1.2.3.{number}",
                PatientName=NAME,
                PatientID=f"{NUMBER}-{number // 2}",
                PatientBirthDate=BORN,
                PatientSex="F" if number % 2 else "M",
                PatientAge="010Y",
                PixelSpacing=[0.2, 0.2],
            )
            (folder / f"IM{number:04d}").write_bytes(path.read_bytes())
            table.writerow([f"1.2.3.{number}", 60 + 10 * number])
    return folder, tmp_path / "readings.csv"


def read_all(folder, info):
    return {
        split: [decode(data) for shard in described["shards"] for data in read_frames(folder / shard["file"])]
        for split, described in info["splits"].items()
    }


def test_a_folder_of_dicom_becomes_records_without_anything_personal(hospital, tmp_path):
    folder, readings = hospital
    made = prepare(folder, out=tmp_path / "records", table=readings, split="random", workers=1)
    assert verify(made.folder) == []
    assert made.rejected == []
    splits = read_all(made.folder, made.info)
    records = {record.id: record for found in splits.values() for record in found}
    assert len(records) == 12
    assert records["1.2.3.3"].bone_age_months == 90
    assert records["1.2.3.3"].sex == "female"
    assert records["1.2.3.3"].pixel_spacing_mm == pytest.approx(0.1)  # 0.2 mm, on a grid twice as fine
    assert records["1.2.3.3"].chronological_age_months == pytest.approx(120, abs=1)
    # Two radiographs of one patient never stand in two splits.
    split_of = {record.id: split for split, found in splits.items() for record in found}
    assert all(split_of[f"1.2.3.{number}"] == split_of[f"1.2.3.{number + 1}"] for number in range(0, 12, 2))
    for path in (entry for entry in made.folder.rglob("*") if entry.is_file()):
        content = path.read_bytes()
        for secret in (*NAME.split("^"), NUMBER, BORN):
            assert secret.encode() not in content, path.name


def test_predicts_them_with_the_sex_of_their_headers(hospital, tmp_path):
    folder, _ = hospital
    made = prepare(folder, out=tmp_path / "records", table=hospital[1], split="random", workers=1)
    inputs = {"image": keras.Input((80, 80, 1), name="image"), "male": keras.Input((1,), name="male")}
    dense = keras.layers.Dense(1, name="months")
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(inputs["image"])
    model = keras.Model(inputs, dense(keras.layers.Concatenate(name="join")([pooled, inputs["male"]])))
    dense.set_weights([np.float32([[100], [50]]), np.float32([0])])
    metadata = {key: made.info[key] for key in ("preprocessing", "fingerprint")}
    bundle = save_bundle(
        tmp_path / "bundle", model, {**metadata, "input_size": 80, "use_sex": True, "task": "age", "tta": "mirrored"}
    )
    frame = predict(folder, bundle=bundle, out=tmp_path / "out.csv").set_index("id")
    assert frame["accepted"].all()
    assert frame.loc["1.2.3.2", "sex"] == "male"
    records = {record.id: record for found in read_all(made.folder, made.info).values() for record in found}
    assert set(frame.index) == set(records)
    for secret in (*NAME.split("^"), NUMBER, BORN):
        assert secret not in (tmp_path / "out.csv").read_text()
        assert secret not in json.dumps(frame.reset_index().to_dict("records"))
