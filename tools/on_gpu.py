"""Train a boneage network with PyTorch on a GPU and import the weights.

1. `pack` writes the crops of a record folder, and the network as a list of layers with its initial weights.
2. `fit` trains on the machine with the GPU. It needs NumPy, OpenCV, torch, typer, this file and torch_network.py, but
   not boneage.
3. `unpack` converts the trained weights to a weights file for `init` of an experiment.

Network, initial weights, augmentation and weight decay are those of the experiment file; a step is the same as in
`boneage.training`. Training takes a given number of minutes: the learning rate is a function of time, not of steps.
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
# One radiograph in ten, by a hash of its id, is held out to compare settings: the validation split is for the final
# evaluation.
_NUM_PARTS = 10
_WARMUP_SHARE = 0.03
_REPORTS = 20

Folder = Annotated[Path, typer.Option(help="Output folder of `pack`.", show_default=False)]


@app.command()
def pack(
    experiments: Annotated[list[Path], typer.Argument(help="Experiment files.")],
    data: Annotated[Path, typer.Option(help="Record folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to create, for `fit`.", show_default=False)],
) -> None:
    """Write the crops of the train split, and the networks with their initial weights."""
    from boneage.configuration.experiment import load_experiment
    from boneage.tfrecords.info import read_info
    from boneage.tfrecords.reader import read_records
    from boneage.training.schedule import build_for_training

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
        loaded = load_experiment(path, overrides=("precision=float32",))
        settings = {**dataclasses.asdict(loaded.augment), "outer_weight": loaded.train.outer_weight}
        for name in ("blur_px", "clip_share", "local_contrast_share", "outer_weight"):
            if settings[name]:
                raise SystemExit(f"{path}: `{name}` is not supported on the GPU; set it to 0.")
        model = build_for_training(
            loaded.train, mean_months=described["mean_months"], std_months=described["std_months"]
        )
        about = {
            "task": loaded.train.task,
            "input_size": loaded.train.input_size,
            "weight_decay": loaded.train.weight_decay,
            "augment": dataclasses.asdict(loaded.augment),
        }
        pack_network(out / f"{loaded.name}.npz", model, about=about)


def pack_network(path: Path, model: Any, *, about: dict[str, Any]) -> None:
    """Write a functional Keras model as a list of layers with its weights in half precision.

    Args:
        path: The `.npz` file.
        model: The model.
        about: What else `fit` needs to know.
    """
    weights = {f"{name}/{weight.name}": weight.numpy() for name, weight in _list_weights(model)}
    described = json.dumps({**about, "layers": _list_layers(model)})
    np.savez_compressed(path, about=np.array(described), **_halve(weights))


def _halve(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert kernels to half precision; vectors with one number per channel stay in float32."""
    return {name: weight.astype(np.float16) if weight.ndim > 1 else weight for name, weight in weights.items()}


def _list_weights(model: Any) -> list[tuple[str, Any]]:
    return [(layer.name, weight) for layer in _flatten(model) for weight in layer.weights if weight.dtype == "float32"]


def _flatten(model: Any) -> list:
    """List the layers of a model, including those of nested models."""
    return [inner for layer in model.layers for inner in (_flatten(layer) if hasattr(layer, "layers") else [layer])]


def _list_layers(model: Any) -> list[dict[str, Any]]:
    """List the layers of a functional model in order of computation, with nested models flattened."""
    inner = {
        layer.name: layer.output._keras_history.operation.name for layer in model.layers if hasattr(layer, "layers")
    }
    listed = []
    for layer in _flatten(model):
        kind, config = type(layer).__name__, layer.get_config()
        if kind == "InputLayer":
            continue
        inputs = [tensor._keras_history.operation.name for tensor in layer._inbound_nodes[0].input_tensors]
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
    out: Annotated[Path, typer.Option(help="Folder for weights and history.", show_default=False)],
    minutes: Annotated[float, typer.Option(help="Duration of the training in minutes.", show_default=False)],
    batch_size: Annotated[int, typer.Option(help="Number of radiographs in a batch.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 3e-3,
    all_data: Annotated[bool, typer.Option("--all-data", help="Train on the held-out tenth too.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
) -> None:
    """Train with PyTorch, on a GPU if available."""
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
    images, male, months = (torch.from_numpy(array).to(device) for array in (images, male, months))
    truth = male if is_sex else months
    trained_rows = torch.from_numpy(np.flatnonzero(~held | all_data)).to(device)
    tested = torch.from_numpy(np.flatnonzero(held)).to(device)
    optimizer = build_optimizer(network, learning_rate=learning_rate, weight_decay=about["weight_decay"])
    in_half = torch.autocast(device, torch.bfloat16) if device == "cuda" else contextlib.nullcontext()

    def evaluate() -> float:
        network.eval()
        outputs = []
        with torch.no_grad(), in_half:
            for rows in tested.split(250):
                batch = _enlarge(images[rows], size=size)
                variants = [batch, batch.flip(3)] if augment["flip_share"] else [batch]
                outputs.append(torch.stack([network(variant, male[rows]) for variant in variants]).mean(0))
        network.train()
        predicted, true = torch.cat(outputs), truth[tested]
        errors = ((predicted > 0) != (true > 0.5)).float() if is_sex else (predicted - true).abs()
        return float(errors.mean())

    network.train()
    history, recent, step, seen, began = [], [], 0, 0, time.perf_counter()
    order, done = trained_rows[torch.randperm(len(trained_rows), device=device)], 0.0
    while done < 1:
        if seen + batch_size > len(order):
            order, seen = trained_rows[torch.randperm(len(trained_rows), device=device)], 0
        rows = order[seen : seen + batch_size]
        batch = _augment(images[rows], augment=augment, size=size)
        rate = min(1.0, done / _WARMUP_SHARE) * 0.5 * (1 + math.cos(math.pi * done)) * learning_rate
        with in_half:
            predicted = network(batch, male[rows])
        recent.append(apply_gradients(optimizer, predicted, truth[rows], task=about["task"], learning_rate=rate))
        step, seen = step + 1, seen + batch_size
        if step % 10 == 0:
            recent[-1].item()  # waits for the device, so that the time is that of the computation
        done = (time.perf_counter() - began) / (60 * minutes)
        if done * _REPORTS >= len(history) + 1 or done >= 1:
            row = {
                "steps": step,
                "epochs": round(step * batch_size / len(trained_rows), 2),
                "loss": round(float(torch.stack(recent).mean()), 4),
                "seconds": round(time.perf_counter() - began, 1),
            }
            if not all_data:
                row["held_error"] = round(evaluate(), 4)
            history.append(row)
            recent.clear()
            typer.echo(f"{name} {json.dumps(row)}")
    settings = {
        "minutes": minutes,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "whole": all_data,
        "seed": seed,
    }
    described = json.dumps({"settings": settings, "history": history})
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / f"{name}.npz", about=np.array(described), **_halve(network.to_keras()))


def build_optimizer(network: Any, *, learning_rate: float, weight_decay: float) -> Any:
    """Build the optimizer of `boneage.training.optimizer`: AdamW that decays kernels alone.

    Args:
        network: The torch network.
        learning_rate: Learning rate of the first step.
        weight_decay: Decoupled weight decay of kernels; biases and normalisations have none.
    """
    import torch

    parameters = list(network.parameters())
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, eps=1e-7)


def apply_gradients(optimizer: Any, predicted: Any, truth: Any, *, task: str, learning_rate: float) -> Any:
    """Compute the loss of a batch and change the weights once, as `boneage.training.fit_loop` does.

    Args:
        optimizer: The optimizer of the network.
        predicted: Output of the network, shape `(batch, 1)`: months, or the logit of the probability of a boy.
        truth: Bone age in months, or 1 for a boy and 0 for a girl, shape `(batch, 1)`.
        task: `"age"` (mean absolute error) or `"sex"` (binary cross-entropy).
        learning_rate: Learning rate of this step.

    Returns:
        The loss, a scalar without gradient.
    """
    from torch.nn import functional

    if task == "sex":
        loss = functional.binary_cross_entropy_with_logits(predicted, truth)
    else:
        loss = functional.l1_loss(predicted, truth)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def _read_crops(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images, uint8 `(radiographs, 1, size, size)`, sex and months `(radiographs, 1)`, and the held-out ones."""
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


def _augment(images: Any, *, augment: dict[str, float], size: int) -> Any:
    """Augment images as `boneage.training.augmentation` does, and resize them in the same step.

    Args:
        images: Shape `(batch, 1, height, width)`, uint8.
        augment: The ranges, see `boneage.configuration.augmentation.AugmentConfig`.
        size: Height and width of the result.

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
    # Coordinates range from -1 to 1: a fraction of the image size is twice that in coordinates.
    shift_x, shift_y = (draw(-2.0, 2.0) * augment["shift_share"] for _ in range(2))
    matrix = torch.stack([a, b, -a * shift_x - b * shift_y, c, d, -c * shift_x - d * shift_y], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(matrix, [len(images), 1, size, size], align_corners=False)
    batch = functional.grid_sample(images.float() / 255, grid, padding_mode="zeros", align_corners=False)
    log_gamma = math.log1p(augment["gamma_share"])
    tone = [
        draw(-log_gamma, log_gamma).exp(),
        draw(1 - augment["contrast_share"], 1 + augment["contrast_share"]),
        draw(-augment["brightness_share"], augment["brightness_share"]),
    ]
    gamma, contrast, brightness = (factor.view(-1, 1, 1, 1) for factor in tone)
    batch = (batch.clamp(1e-6) ** gamma - 0.5) * contrast + 0.5 + brightness
    if augment["noise_share"]:
        batch = batch + draw(0.0, augment["noise_share"]).view(-1, 1, 1, 1) * torch.randn_like(batch)
    return batch.clamp(0, 1)


@app.command()
def unpack(
    weights: Annotated[Path, typer.Argument(help="NAME.npz from `fit`.")],
    experiment: Annotated[Path, typer.Argument(help="The experiment file given to `pack`.")],
    data: Annotated[Path, typer.Option(help="Record folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="NAME.weights.h5 to create.", show_default=False)],
) -> None:
    """Write a weights file for `init`, and print the settings and the history of the training."""
    from boneage.configuration.experiment import load_experiment
    from boneage.tfrecords.info import read_info
    from boneage.training.schedule import build_for_training

    described = read_info(data)["splits"]["train"]
    config = load_experiment(experiment, overrides=("init=none", "precision=float32")).train
    model = build_for_training(config, mean_months=described["mean_months"], std_months=described["std_months"])
    with np.load(weights, allow_pickle=False) as stored:
        for name, weight in _list_weights(model):
            weight.assign(stored[f"{name}/{weight.name}"].astype(np.float32))
        typer.echo(str(stored["about"]))
    model.save_weights(out)


if __name__ == "__main__":
    app()
