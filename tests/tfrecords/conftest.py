"""What the tests of this folder share: records of tiny images, and folders of them."""

import cv2
import numpy as np
import pytest

from boneage.base.files import write_json
from boneage.tfrecords.schema import SCHEMA_VERSION, Record, encode
from boneage.tfrecords.writer import INFO_FILE, REJECTED_FILE, data_digest, write_features, write_rejected, write_split

FINGERPRINT = "0123456789abcdef"


@pytest.fixture(scope="session")
def make_record():
    """A function that makes a record of its own pixels; `fields` replace what it would choose."""

    def make(id="1520", *, pixels=None, **fields):
        if pixels is None:
            pixels = np.random.default_rng(list(id.encode())).integers(0, 256, (8, 8), np.uint8)
        chosen = {
            "image": cv2.imencode(".png", pixels)[1].tobytes(),
            "id": id,
            "sex": "female",
            "source_sha256": "5" * 64,
            "pixel_sha256": f"pixels of {id}",
            "original_size_px": (20, 16),
            "crop_box_px": (0, 2, 16, 18),
            "rotation_degrees": 0.0,
            "mirrored": 0,
            "fingerprint": FINGERPRINT,
            "bone_age_months": 120.0,
        }
        return Record(**chosen | fields)

    return make


@pytest.fixture(scope="session")
def write_records():
    """A function that writes a record folder from lists of records by split, two records in a shard."""

    def write(folder, splits, *, shard_records=2):
        folder.mkdir()
        described = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("boneage.tfrecords.writer.MAX_SHARD_RECORDS", shard_records)
            for split, records in splits.items():
                shards = write_split(folder, split, records, load=encode)
                ages = [record.bone_age_months for record in records if record.bone_age_months is not None]
                described[split] = {
                    "num_records": len(records),
                    "num_labelled": len(ages),
                    "mean_months": float(np.mean(ages or 0)),
                    "std_months": float(np.std(ages or 0)),
                    "shards": shards,
                }
        info = {
            "schema_version": SCHEMA_VERSION,
            "fingerprint": FINGERPRINT,
            "splits": described,
            "digest": data_digest(described),
            "num_rejected": 0,
        }
        write_json(folder / INFO_FILE, info)
        write_features(folder)
        write_rejected(folder / REJECTED_FILE, [])
        return folder

    return write
