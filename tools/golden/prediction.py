"""The steps that predict, on the command line and over HTTP."""

import contextlib
import csv
import socket
import subprocess
import time

import httpx

from golden.describe import Document, describe_predictions, describe_records, hash_files, keep_comparable
from golden.preparation import IMAGES, TABLE
from golden.program import GoldenRunError, Program

NUM_OTHER_HOSPITAL, NUM_NOT_HANDS = 20, 10


def predict_drawn(program: Program) -> Document:
    """Predict drawn radiographs with the packaged bundles, and without the sex with the trained ones."""
    files = [f"drawn/{IMAGES}/{number}.png" for number in range(1, 9)]
    program.run(
        "predict", *files, f"drawn/{IMAGES}/cut.png", "--table", f"drawn/{TABLE}", "--out", "packaged.csv",
        "--occlusion-maps", "packaged-maps", "--fhir", "packaged-fhir", "--tta", "mirrored", "--workers", "1",
    )  # fmt: skip
    trained = ("--bundle", "age/bundle", "--sex-bundle", "sex/bundle")
    program.run("predict", *files, *trained, "--out", "trained.csv", "--occlusion-maps", "trained-maps")
    return {
        "packaged": describe_predictions(program.folder / "packaged.csv", fhir=program.folder / "packaged-fhir"),
        "packaged_maps": hash_files(program.folder / "packaged-maps", "*.png"),
        "trained": describe_predictions(program.folder / "trained.csv"),
        "trained_maps": hash_files(program.folder / "trained-maps", "*.png"),
    }


def predict_dicom(program: Program) -> Document:
    """Predict DICOM files with all reports."""
    folders = {"dicom": program.folder / "reports-dicom", "fhir": program.folder / "reports-fhir"}
    options = [part for name, folder in folders.items() for part in (f"--{name}", folder)]
    program.run("predict", "dicom", "--out", "dicom.csv", *options)
    return describe_predictions(program.folder / "dicom.csv", **folders)


def predict_without_reports(program: Program) -> Document:
    """Print a prediction as JSON, with the sex given."""
    return {"printed": program.run_json("predict", f"large/{IMAGES}", "--sex", "female")}


def serve_readings(program: Program) -> Document:
    """Ask the server for readings."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = program.start("serve", "--port", str(port))
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_until_ready(client, process)
            paths = [program.folder / "large" / IMAGES / "1.png", program.folder / "dicom" / "rle.dcm"]
            files = [("files", (path.name, path.read_bytes())) for path in paths]
            answer = client.post("/api/v1/predict", files=files, data={"chronological_age_months": "126"})
    finally:
        process.terminate()
        process.wait()
    return {"readings": keep_comparable(answer.raise_for_status().json())}


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen) -> None:
    while process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if client.get("/readyz").is_success:
                return
        time.sleep(0.1)
    raise GoldenRunError(f"serve: exit status {process.returncode}.")


def prepare_and_predict_real(program: Program) -> Document:
    """Prepare and predict real radiographs of hands and of other parts of the body."""
    if program.data is None:
        return {}
    folder = program.folder / "real"
    folder.mkdir()
    with (program.data / "radiographs" / "labels.csv").open(encoding="utf-8", newline="") as file:
        labels = {row["id"]: (row["boneage"], row["male"]) for row in csv.DictReader(file)}
    files = sorted((program.data / "radiographs" / "full").glob("*.png"))
    files += sorted((program.data / "other_hospital").glob("*.jpg"))[:NUM_OTHER_HOSPITAL]
    files += sorted((program.data / "not_hands").glob("*.jpg"))[:NUM_NOT_HANDS]
    rows = ["id,boneage,male"]
    for path in files:
        (folder / path.name).write_bytes(path.read_bytes())
        rows.append(",".join((path.stem, *labels.get(path.stem, ("120", "False")))))
    (program.folder / "real.csv").write_text("\n".join((*rows, "")), encoding="utf-8")
    program.run("prepare", "real", "--out", "real-records", "--table", "real.csv", "--split", "random")
    program.run("predict", "real", "--out", "predicted-real.csv")
    return {
        "records": describe_records(program.folder / "real-records"),
        "verified": program.run_json("records", "real-records", "--verify"),
        "predictions": describe_predictions(program.folder / "predicted-real.csv"),
    }
