"""The README of record folders says what the code does."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import boneage.tfrecords.schema
from boneage.base.errors import BoneAgeError
from boneage.cli.main import app
from boneage.tfrecords.schema import FIELDS, SCHEMA_VERSION
from boneage.tfrecords.writer import MAX_SHARD_RECORDS

README = Path(boneage.tfrecords.schema.__file__).with_name("README.md").read_text(encoding="utf-8")
SAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def records_here(tmp_path, monkeypatch, make_record, write_records):
    """A working folder with `records` in it."""
    monkeypatch.chdir(tmp_path)
    train = [make_record("a", bone_age_months=24.0), make_record("b", bone_age_months=None)]
    return write_records(tmp_path / "records", {"train": train})


def run(sample):
    names = {}
    exec(sample, names)
    return names


def test_table_equals_the_schema():
    head, _, *rows = [line for line in README.partition("## Fields")[2].splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        name.capitalize() for name in ("field", "kind", "length", "optional", "unit", "description")
    ]
    expected = [
        [
            f"`{field.name}`",
            field.kind,
            str(field.length),
            "yes" if field.optional else "no",
            field.unit,
            field.description,
        ]
        for field in FIELDS
    ]
    assert [[cell.strip() for cell in row.strip("|").split("|")] for row in rows] == expected


def test_numbers_of_the_text():
    assert f"Version {SCHEMA_VERSION} of the schema" in README
    assert f"at most {MAX_SHARD_RECORDS:,} records" in README


def test_files_of_the_text(records_here):
    named = re.findall(r"^\| `([^`]+)`.*\|$", README.partition("## Fields")[0], flags=re.MULTILINE)
    for contact_sheet in ("review/index.html", "review/tiles.jsonl"):
        named.remove(contact_sheet)  # there are no contact sheets of whole frames
    assert {re.sub(r"\d{5}", "N", name) for name in named} == {
        re.sub(r"\d{5}", "N", path.name) for path in records_here.iterdir()
    }


def test_plain_tensorflow(records_here, make_record):
    (sample,) = [sample for sample in SAMPLES if "tf.io" in sample]
    assert len(sample.splitlines()) == 10
    names = run(sample)
    assert names["image"].shape == (8, 8, 1)
    assert np.isnan(names["months"])
    assert names["record"]["image"] == make_record("b").image


def test_batches(records_here):
    (sample,) = [sample for sample in SAMPLES if "read_records" in sample]
    names = run(sample)
    assert names["image"].shape == (2, 128, 128, 1)
    assert names["male"].numpy().tolist() == [[0.0], [0.0]]
    np.testing.assert_array_equal(names["months"], np.float32([[24.0], [np.nan]]))


def test_without_tensorflow(records_here):
    (sample,) = [sample for sample in SAMPLES if "read_frames" in sample]
    assert [record.id for record in run(sample)["records"]] == ["a", "b"]


def test_verify(records_here):
    (sample,) = [sample for sample in SAMPLES if "verify" in sample]
    assert run(sample)["faults"] == []


def test_command_line(records_here):
    (line,) = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    (records_here / "stray").touch()
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert isinstance(result.exception, BoneAgeError)
    assert result.stderr.splitlines() == ["stray: not part of this folder"]
