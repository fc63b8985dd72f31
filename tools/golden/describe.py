"""What a golden run records of the files that a command wrote: numbers, and digests of pixels and weights."""

import base64
import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import onnx
import pydicom
from pydicom.dataset import Dataset

# Keys whose values may differ between two runs: paths, times, sentences, versions.
LEFT_OUT = {
    "boneage_version", "bundle", "caution", "dataset", "detail", "images_per_second", "input_stall_share",
    "intended_use", "job", "metadata_digest", "path", "reports", "run", "run_id", "seconds", "sha256", "started",
}  # fmt: skip

Document = dict[str, Any]


def keep_comparable(value: Any) -> Any:
    """Leave out of a JSON document what may differ between two runs, at any depth."""
    if isinstance(value, dict):
        return {key: keep_comparable(item) for key, item in value.items() if key not in LEFT_OUT}
    if isinstance(value, list):
        return [keep_comparable(item) for item in value]
    return value


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hash_files(folder: Path, pattern: str) -> Document:
    """Return the SHA-256 of each file of a folder by its name."""
    return {path.name: hash_file(path) for path in sorted(folder.glob(pattern))}


def read_json(path: Path) -> Any:
    """Read a JSON file without what may differ."""
    return keep_comparable(json.loads(path.read_text(encoding="utf-8")))


def read_table(path: Path, *, key: str) -> Document:
    """Read a CSV as rows by the value of one column; numbers stay as they are written."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row[key]: keep_comparable(row) for row in csv.DictReader(file)}


def describe_records(folder: Path) -> Document:
    """Describe a record folder: its info, shards, rejections and the pictures of its contact sheets."""
    with (folder / "rejected.csv").open(encoding="utf-8", newline="") as file:
        rejected = [
            {**keep_comparable(row), "decisions": json.loads(row["decisions"] or "null")}
            for row in csv.DictReader(file)
        ]
    pictures = [
        hashlib.sha256(base64.b64decode(found)).hexdigest()
        for page in sorted(folder.glob("review/*.html"))
        for found in re.findall(r"data:image/jpeg;base64,([^\"]+)", page.read_text(encoding="utf-8"))
    ]
    return {
        "info": read_json(folder / "dataset_info.json"),
        "shards": hash_files(folder, "*.tfrecord"),
        "rejected": rejected,
        "sheet_pictures": sorted(pictures),
    }


def describe_bundle(folder: Path) -> Document:
    """Describe a bundle: its metadata and the weights of its networks."""
    described = {"metadata": read_json(folder / "metadata.json"), "onnx_weights": hash_onnx(folder / "model.onnx")}
    if (keras := folder / "model.keras").exists():
        with zipfile.ZipFile(keras) as archive:
            described["keras_weights"] = hash_keras(io.BytesIO(archive.read("model.weights.h5")))
    return described


def hash_keras(file: Path | BinaryIO) -> str:
    """Return the SHA-256 over the weights of a Keras weights file, without the names of layers."""
    digests: list[str] = []

    def add(_: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            digests.append(hashlib.sha256(item[()].tobytes()).hexdigest())

    with h5py.File(file) as weights:
        weights.visititems(add)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def hash_onnx(path: Path) -> str:
    """Return the SHA-256 over the weights of an ONNX file; the converter orders and names them anew each time."""
    weights = onnx.load(path).graph.initializer
    digests = sorted(hashlib.sha256(onnx.numpy_helper.to_array(weight).tobytes()).hexdigest() for weight in weights)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def describe_run(folder: Path) -> Document:
    """Describe a run folder: history, best weights, evaluation, bundle."""
    evaluation = folder / "evaluation-validation"
    return {
        "history": read_json(folder / "state.json")["history"],
        "best_weights": hash_keras(folder / "best.weights.h5"),
        "evaluation": read_json(evaluation / "evaluation.json"),
        "predictions": read_table(evaluation / "predictions.csv", key="id"),
        "bundle": describe_bundle(folder / "bundle"),
    }


def describe_fhir(path: Path) -> Document:
    """Return the codes and quantities of an observation."""
    observation = json.loads(path.read_text(encoding="utf-8"))
    return {
        "code": [coding["code"] for coding in observation["code"]["coding"]],
        "value": observation["valueQuantity"],
        "ranges": [component["valueRange"] for component in observation.get("component", ())],
        "num_notes": len(observation["note"]),
        "derived_from": observation.get("derivedFrom"),
    }


def describe_dicom(path: Path) -> Document:
    """Return what a report says but for UIDs, dates, times, sentences and versions; pixels as their SHA-256."""
    dataset = pydicom.dcmread(path)
    described: Document = {"measured": list(_list_measured(dataset))}
    for element in dataset:
        if element.keyword == "PixelData":
            described["pixels"] = hashlib.sha256(element.value).hexdigest()
        elif element.VR not in ("DA", "DT", "SQ", "TM", "UI", "UT") and element.keyword != "SoftwareVersions":
            described[element.keyword] = str(element.value)
    return described


def _list_measured(item: Dataset) -> Iterator[Document]:
    """List the numbers and codes of a structured report in their order."""
    if item.get("ValueType") in ("NUM", "CODE"):
        (name,) = item.ConceptNameCodeSequence
        measured: Document = {"name": name.CodeValue}
        for value in item.get("MeasuredValueSequence", ()):
            (unit,) = value.MeasurementUnitsCodeSequence
            measured |= {"value": float(value.NumericValue), "unit": unit.CodeValue}
        for code in item.get("ConceptCodeSequence", ()):
            measured["code"] = code.CodeValue
        yield measured
    for content in item.get("ContentSequence", ()):
        yield from _list_measured(content)


def describe_predictions(table: Path, *, dicom: Path | None = None, fhir: Path | None = None) -> Document:
    """Describe the table of a prediction, and the reports that it names."""
    described = read_table(table, key="file")
    with table.open(encoding="utf-8", newline="") as file:
        reports = {row["file"]: row["reports"].split(";") for row in csv.DictReader(file) if row["reports"]}
    for file_name, names in reports.items():
        for name in names:
            if fhir is not None and name.endswith(".json"):
                described[file_name]["fhir"] = describe_fhir(fhir / name)
            if dicom is not None and name.endswith(".dcm"):
                made = describe_dicom(dicom / name)
                described[file_name][f"dicom {made['Modality']}"] = made
    return described
