"""Train a network of boneage by torch on a GPU, where TensorFlow is not installed for one, and bring it back.

1. `pack` writes the crops of a record folder, and the network as a list of layers with its first weights.
2. `fit` runs where the GPU is. It needs NumPy, OpenCV, torch, typer, this file and torch_network.py, not boneage.
3. `unpack` makes of what came back a file of weights that `init` of an experiment takes.

Network, first weights, ranges of the augmentation and weight decay are those of the experiment file. Training lasts as
many minutes as it is given: the learning rate falls with time, not with steps.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import time
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer

app = typer.Typer(add_completion=False, help=__doc__)
# One radiograph in ten, by a hash of its id, is learnt from by none, so that recipes can be compared: those of the
# validation split are for the last word.
_NUM_PARTS = 10
_WARMUP_SHARE = 0.03
_REPORTS = 20

Folder = Annotated[Path, typer.Option(help="What `pack` wrote.", show_default=False)]


@app.command()
def pack(
    experiments: Annotated[list[Path], typer.Argument(help="Experiment files.")],
    data: Annotated[Path, typer.Option(help="Record folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to take along.", show_default=False)],
) -> None:
    """Write the crops of the train split, and each network with its first weights."""
    from boneage.config import load_experiment
    from boneage.phases import build_to_train
    from tfrecords.info import read_info
    from tfrecords.read import read_records

    info = read_info(data)
    out.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list] = {"ids": [], "male": [], "months": [], "crops": []}
    size = int(info["preprocessing"]["image_size_px"])
    for batch in read_records(data, split="train", input_size=size, batch_size=256):
        columns["ids"] += [id.decode() for id in batch["id"].numpy()]
        columns["male"].append(batch["male"].numpy())
        columns["months"].append(batch["bone_age_months"].numpy())
        columns["crops"] += [
            cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 101])[1] for image in batch["image"].numpy()
        ]
    crops = columns["crops"]
    np.savez(
        out / "crops.npz",
        ids=np.array(columns["ids"]),
        male=np.concatenate(columns["male"]),
        months=np.concatenate(columns["months"]),
        lengths=np.array([len(crop) for crop in crops]),
        crops=np.concatenate(crops),
    )
    described = info["splits"]["train"]
    for path in experiments:
        loaded = load_experiment(path)
        model = build_to_train(loaded.train, mean_months=described["mean_months"], std_months=described["std_months"])
        weights = {f"{name}/{weight.name}": weight.numpy() for name, weight in _list_weights(model)}
        about = {
            "task": loaded.train.task,
            "input_size": loaded.train.input_size,
            "weight_decay": loaded.train.weight_decay,
            "augment": dataclasses.asdict(loaded.augment),
            "layers": _list_layers(model),
        }
        np.savez_compressed(out / f"{loaded.name}.npz", about=np.array(json.dumps(about)), **_halve(weights))


def _halve(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return kernels in half precision, as they travel and ship; what is a number a channel stays as it is."""
    return {name: each.astype(np.float16) if each.ndim > 1 else each for name, each in weights.items()}


def _list_weights(model: Any) -> list[tuple[str, Any]]:
    return [(layer.name, weight) for layer in _flatten(model) for weight in layer.weights if weight.dtype == "float32"]


def _flatten(model: Any) -> list:
    """List the layers of a model and of those inside it."""
    return [each for layer in model.layers for each in (_flatten(layer) if hasattr(layer, "layers") else [layer])]


def _list_layers(model: Any) -> list[dict[str, Any]]:
    """List what a functional model computes, in order, models inside it unfolded."""
    inner = {
        layer.name: layer.output._keras_history.operation.name for layer in model.layers if hasattr(layer, "layers")
    }
    listed = []
    for layer in _flatten(model):
        kind, config = type(layer).__name__, layer.get_config()
        if kind == "InputLayer":
            continue
        inputs = [each._keras_history.operation.name for each in layer._inbound_nodes[0].input_tensors]
        wanted = {"strides", "kernel_size", "padding", "epsilon", "momentum", "max_value", "activation", "rate"}
        wanted |= {"scale", "offset"} if kind == "Rescaling" else set()
        options = {name: config[name] for name in sorted(wanted & config.keys())}
        inputs = [inner.get(name, name) for name in inputs]
        listed.append({"name": layer.name, "kind": kind, "inputs": inputs, "options": options})
    return listed


@app.command()
def fit(
    name: Annotated[str, typer.Argument(help="Name of the experiment.")],
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Folder for the weights and the history.", show_default=False)],
    minutes: Annotated[float, typer.Option(help="How long to train.", show_default=False)],
    batch_size: Annotated[int, typer.Option(help="Radiographs in a batch.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 3e-3,
    whole: Annotated[bool, typer.Option(help="Learn from the tenth too by which recipes are compared.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
) -> None:
    """Train by torch, on the GPU where there is one."""
    import torch
    from torch_network import TorchNetwork

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    with np.load(folder / f"{name}.npz", allow_pickle=False) as stored:
        about = json.loads(str(stored["about"]))
        weights = {key: stored[key] for key in stored.files if key != "about"}
    network = TorchNetwork(about["layers"], weights).to(device)
    is_sex, size, augment = about["task"] == "sex", about["input_size"], about["augment"]
    images, male, months, held = _read_crops(folder)
    images, male, months = (torch.from_numpy(each).to(device) for each in (images, male, months))
    truth = male if is_sex else months
    learnt = torch.from_numpy(np.flatnonzero(~held | whole)).to(device)
    tested = torch.from_numpy(np.flatnonzero(held)).to(device)
    kernels = [each for each in network.parameters() if each.ndim > 1]
    others = [each for each in network.parameters() if each.ndim == 1]
    groups = [{"params": kernels, "weight_decay": about["weight_decay"]}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, eps=1e-7)
    in_half = torch.autocast(device, torch.bfloat16) if device == "cuda" else contextlib.nullcontext()

    def evaluate() -> float:
        network.eval()
        told = []
        with torch.no_grad(), in_half:
            for rows in tested.split(250):
                looks = _enlarge(images[rows], size=size)
                views = [looks, looks.flip(3)] if augment["flip_share"] else [looks]
                told.append(torch.stack([network(view, male[rows]) for view in views]).mean(0))
        network.train()
        answers, true = torch.cat(told), truth[tested]
        wrong = ((answers > 0) != (true > 0.5)).float() if is_sex else (answers - true).abs()
        return float(wrong.mean())

    network.train()
    history, recent, step, seen, began = [], [], 0, 0, time.perf_counter()
    order, done = learnt[torch.randperm(len(learnt), device=device)], 0.0
    while done < 1:
        if seen + batch_size > len(order):
            order, seen = learnt[torch.randperm(len(learnt), device=device)], 0
        rows = order[seen : seen + batch_size]
        looks = _look_anew(images[rows], augment=augment, size=size)
        with in_half:
            told = network(looks, male[rows])
        if is_sex:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(told, truth[rows])
        else:
            loss = (told - truth[rows]).abs().mean()
        rate = min(1.0, done / _WARMUP_SHARE) * 0.5 * (1 + math.cos(math.pi * done)) * learning_rate
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        recent.append(loss.detach())
        step, seen = step + 1, seen + batch_size
        if step % 10 == 0:
            recent[-1].item()  # waits for the device, so that the time is that of the steps, not of asking for them
        done = (time.perf_counter() - began) / (60 * minutes)
        if done * _REPORTS >= len(history) + 1 or done >= 1:
            row = {
                "steps": step,
                "epochs": round(step * batch_size / len(learnt), 2),
                "loss": round(float(torch.stack(recent).mean()), 4),
                "seconds": round(time.perf_counter() - began, 1),
            }
            if not whole:
                row["held_error"] = round(evaluate(), 4)
            history.append(row)
            recent.clear()
            typer.echo(f"{name} {json.dumps(row)}")
    settings = {
        "minutes": minutes,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "whole": whole,
        "seed": seed,
    }
    told_apart = json.dumps({"settings": settings, "history": history})
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / f"{name}.npz", about=np.array(told_apart), **_halve(network.to_keras()))


def _read_crops(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images, uint8 `(radiographs, 1, side, side)`, sex and months `(radiographs, 1)`, and who is held back."""
    with np.load(folder / "crops.npz", allow_pickle=False) as stored:
        ids, male, months = stored["ids"], stored["male"], stored["months"]
        ends = np.cumsum(stored["lengths"])
        parts = np.split(stored["crops"], ends[:-1])
    images = np.stack([cv2.imdecode(part, cv2.IMREAD_GRAYSCALE)[None] for part in parts])
    held = np.array([int(hashlib.sha256(id.encode()).hexdigest(), 16) % _NUM_PARTS == 0 for id in ids])
    return images, male, months, held


def _enlarge(images: Any, *, size: int) -> Any:
    from torch.nn import functional

    return functional.interpolate(images.float() / 255, size=(size, size), mode="bilinear", align_corners=False)


def _look_anew(images: Any, *, augment: dict[str, float], size: int) -> Any:
    """Turn, zoom, narrow, shift, mirror and expose each image as `boneage.augment` does, and enlarge in the same turn.

    Args:
        images: Shape `(batch, 1, side, side)`, uint8.
        augment: Ranges, as of `boneage.config.AugmentConfig`.
        size: Side of the result.

    Returns:
        Shape `(batch, 1, size, size)`, float32 in [0, 1].
    """
    import torch
    from torch.nn import functional

    def draw(low: float, high: float) -> Any:
        return torch.empty(len(images), device=images.device).uniform_(low, high)

    turn = math.radians(augment["rotation_degrees"])
    angle = draw(-turn, turn)
    zoom = draw(1 - augment["zoom_share"], 1 + augment["zoom_share"])
    narrow = draw(1 - augment["narrow_share"], 1.0)
    mirror = torch.where(draw(0.0, 1.0) < augment["flip_share"], -1.0, 1.0)
    scale_x, scale_y = mirror / (zoom * narrow), 1 / zoom
    a, b = scale_x * torch.cos(angle), -scale_x * torch.sin(angle)
    c, d = scale_y * torch.sin(angle), scale_y * torch.cos(angle)
    # Coordinates go from -1 to 1: a share of the side is twice as much of them.
    shift_x, shift_y = (draw(-2.0, 2.0) * augment["shift_share"] for _ in range(2))
    matrix = torch.stack([a, b, -a * shift_x - b * shift_y, c, d, -c * shift_x - d * shift_y], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(matrix, [len(images), 1, size, size], align_corners=False)
    looks = functional.grid_sample(images.float() / 255, grid, padding_mode="zeros", align_corners=False)
    log_gamma = math.log1p(augment["gamma_share"])
    tone = [
        draw(-log_gamma, log_gamma).exp(),
        draw(1 - augment["contrast_share"], 1 + augment["contrast_share"]),
        draw(-augment["brightness_share"], augment["brightness_share"]),
    ]
    gamma, contrast, brightness = (each.view(-1, 1, 1, 1) for each in tone)
    looks = (looks.clamp(1e-6) ** gamma - 0.5) * contrast + 0.5 + brightness
    if augment["noise_share"]:
        looks = looks + draw(0.0, augment["noise_share"]).view(-1, 1, 1, 1) * torch.randn_like(looks)
    return looks.clamp(0, 1)


@app.command()
def unpack(
    weights: Annotated[Path, typer.Argument(help="NAME.npz that `fit` wrote.")],
    experiment: Annotated[Path, typer.Argument(help="The experiment file that `pack` was given.")],
    data: Annotated[Path, typer.Option(help="Record folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="NAME.weights.h5 to make.", show_default=False)],
) -> None:
    """Write a file of weights that `init` takes, and print how they were trained."""
    from boneage.config import load_experiment
    from boneage.phases import build_to_train
    from tfrecords.info import read_info

    described = read_info(data)["splits"]["train"]
    config = load_experiment(experiment, overrides=("init=none",)).train
    model = build_to_train(config, mean_months=described["mean_months"], std_months=described["std_months"])
    with np.load(weights, allow_pickle=False) as stored:
        for name, weight in _list_weights(model):
            weight.assign(stored[f"{name}/{weight.name}"].astype(np.float32))
        typer.echo(str(stored["about"]))
    model.save_weights(out)


if __name__ == "__main__":
    app()
