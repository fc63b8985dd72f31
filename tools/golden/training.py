"""The steps that train, evaluate, calibrate, join, export and search networks."""

import json
import signal
import time

from golden.describe import (
    Document,
    describe_bundle,
    describe_predictions,
    describe_run,
    hash_onnx,
    read_json,
    read_table,
)
from golden.preparation import IMAGES
from golden.program import Program

AGE_EXPERIMENT = """
[train]
input_size = 64
epochs = 2
batch_size = 8
learning_rate = 5e-4
dropout = 0.2
seed = 7
[tune]
num_layers = [1]
units = [16]
trial_epochs = 1
best_k = 1
"""
SEX_EXPERIMENT = """
[train]
task = "sex"
use_sex = false
input_size = 64
epochs = 2
batch_size = 8
learning_rate = 5e-4
seed = 7
"""


def train_unet(program: Program) -> Document:
    """Train the U-Net on the masks of `segment_hands`."""
    settings = ("--set", "steps=2", "--set", "batch_size=2")
    program.run("train-unet", f"drawn/{IMAGES}", "--masks", "masks-hand_sam", "--out", "unet-trained", *settings)
    folder = program.folder / "unet-trained"
    card = {key: value for key, value in read_json(folder / "unet.json").items() if key != "onnx_sha256"}
    return {
        "card": card,
        "measures": (folder / "unet.csv").read_text(encoding="utf-8").splitlines()[1:],
        "weights": hash_onnx(folder / "unet.onnx"),
    }


def train_age(program: Program) -> Document:
    """Train for bone age with tracking, and list the runs in the store."""
    (program.folder / "age.toml").write_text(AGE_EXPERIMENT, encoding="utf-8")
    store = ("--tracking-uri", f"sqlite:///{program.folder / 'mlflow.db'}")
    program.run("train", "age.toml", "--data", "hands", "--run", "age", *store)
    best = program.run_json("best", *store)
    runs = [{key: row[key] for key in sorted(row) if isinstance(row[key], float)} for row in best["runs"]]
    return {**describe_run(program.folder / "age"), "best": {"metric": best["metric"], "runs": runs}}


def resume_training(program: Program) -> Document:
    """Kill a training run after its first epoch and resume it."""
    arguments = ("train", "age.toml", "--data", "hands", "--tracking-uri", "none")
    state = program.folder / "resumed" / "state.json"
    process = program.start(*arguments, "--run", "resumed")
    while process.poll() is None and not (state.exists() and json.loads(state.read_text(encoding="utf-8"))["history"]):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    program.run(*arguments, "--run", "resumed", "--resume")
    return describe_run(program.folder / "resumed")


def train_frozen(program: Program) -> Document:
    """Train on whole frames from the packaged bundle: first the head alone, then some layers too."""
    settings = [
        f"{key}={value}"
        for key, value in {
            "init": "default", "trainable": 6, "head_epochs": 1, "warmup_epochs": 0.5, "layer_decay": 0.8,
            "loss": "huber", "pooling": "both", "head_units": "[16, 8]", "activation": "gelu", "sex_joins": "after",
            "optimizer": "adam", "augment.blur_px": 1, "augment.noise_share": 0.1,
        }.items()
    ]  # fmt: skip
    program.run(
        "train", "age.toml", "--data", "frames", "--run", "frozen", "--tracking-uri", "none",
        *(part for setting in settings for part in ("--set", setting)),
    )  # fmt: skip
    return describe_run(program.folder / "frozen")


def train_sex(program: Program) -> Document:
    """Train a network that classifies the sex, and evaluate it."""
    (program.folder / "sex.toml").write_text(SEX_EXPERIMENT, encoding="utf-8")
    program.run("train", "sex.toml", "--data", "hands", "--run", "sex", "--tracking-uri", "none")
    evaluation = program.run_json("evaluate", "sex/bundle", "--data", "hands", "--split", "test")
    return {**describe_run(program.folder / "sex"), "test": evaluation}


def evaluate_age(program: Program) -> Document:
    """Evaluate the trained bundle with each test-time augmentation."""
    described = {}
    for name in ("none", "mirrored", "ten"):
        out = program.folder / f"evaluation-{name}"
        described[name] = {
            "printed": program.run_json(
                "evaluate", "age/bundle", "--data", "hands", "--split", "train", "--tta", name, "--out", out
            ),
            "predictions": read_table(out / "predictions.csv", key="id"),
        }
    return described


def calibrate_bundle(program: Program) -> Document:
    """Calibrate the trained bundle and predict with the calibrated one."""
    printed = program.run_json("calibrate", "age/bundle", "--data", "hands", "--out", "calibrated")
    program.run("predict", "dicom", "--bundle", "calibrated", "--out", "calibrated.csv")
    return {
        "printed": printed,
        "bundle": describe_bundle(program.folder / "calibrated"),
        "predictions": describe_predictions(program.folder / "calibrated.csv"),
    }


def join_bundles(program: Program) -> Document:
    """Join two bundles and evaluate the ensemble."""
    program.run("ensemble", "age/bundle", "resumed/bundle", "--out", "joined", "--tta", "mirrored")
    return {
        "bundle": describe_bundle(program.folder / "joined"),
        "evaluation": program.run_json("evaluate", "joined", "--data", "hands", "--split", "test"),
    }


def export_bundle(program: Program) -> Document:
    """Export the trained bundle in two formats."""
    described = {"tflite": program.run_json("export", "age/bundle", "--out", "age.tflite", "--format", "tflite")}
    described["onnx"] = program.run_json("export", "age/bundle", "--out", "age.onnx")
    return {**described, "onnx_weights": hash_onnx(program.folder / "age.onnx")}


def search_heads(program: Program) -> Document:
    """Search for a head by three trials."""
    arguments = ("--num-trials", "3", "--tuner", "random", "--seed", "3", "--tracking-uri", "none")
    return program.run_json("tune", "age.toml", "--data", "hands", "--out", "search", *arguments)
