"""Answer by the packaged network through one runtime, again and again, and tell how long an image takes.

    python benchmarks/answering.py torch --batch 32 --seconds 2

Prints JSON: `version` of the runtime, `months` that it answers to random images, `seconds_per_image`. With
`--seconds 0` it answers once, as a cold start does. Imported is only what the runtime needs: that is part of its start.
"""

import argparse
import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import boneage

BUNDLE = Path(boneage.__file__).parent / "bundles" / "default"

# From images `(batch, size, size, 1)` in [0, 1] and `(batch, 1)`, 1 for male, to months `(batch, 1)`, all float32.
Answer = Callable[[np.ndarray, np.ndarray], np.ndarray]
# Of the depthwise convolutions of EfficientNet-Lite0, in order.
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)


def load_by_onnxruntime() -> Answer:
    """Load it as the package itself does."""
    from boneage.bundles.bundle import load_bundle

    session = load_bundle(BUNDLE, num_threads=1).session
    return lambda image, male: session.run(None, {"image": image, "male": male})[0]


def load_by_tensorflow() -> Answer:
    """Load it by Keras."""
    from boneage.bundles.save import load_network

    model = load_network(BUNDLE)
    return lambda image, male: model.predict_on_batch({"image": image, "male": male})


def load_by_torch() -> Answer:
    """Build its members in torch, batch normalisation folded into the convolutions as ONNX has it, and fill them."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    with np.load(BUNDLE / "weights.npz", allow_pickle=False) as file:
        arrays = [file[key].astype(np.float32) for key in sorted(file.files, reverse=True)]  # the first comes last

    def take_convolution(*, stride: int = 1) -> tuple[torch.Tensor, torch.Tensor, int]:
        kernel, gamma, beta, mean, variance = (arrays.pop() for _ in range(5))
        scale = gamma / np.sqrt(variance + 1e-3)
        # (row, column, in, out) becomes (out, in, row, column); a depthwise one, (row, column, channel, 1), alike.
        order = (2, 3, 0, 1) if kernel.shape[3] == 1 else (3, 2, 0, 1)
        weight = kernel.transpose(order) * scale[:, None, None, None]
        packed = torch.from_numpy(weight).contiguous(memory_format=torch.channels_last)
        return packed, torch.from_numpy(beta - mean * scale), stride

    def take_dense() -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(arrays.pop().T.copy()), torch.from_numpy(arrays.pop())

    def convolve(x: torch.Tensor, layer: tuple[torch.Tensor, torch.Tensor, int]) -> torch.Tensor:
        weight, bias, stride = layer
        size, kernel_size = x.shape[2], weight.shape[2]
        missing = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)  # as TensorFlow's padding "same"
        if missing % 2:
            x, missing = functional.pad(x, (missing // 2, missing - missing // 2) * 2), 0
        return functional.conv2d(x, weight, bias, stride, missing // 2, groups=x.shape[1] // weight.shape[1])

    def take_member() -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        stem = take_convolution(stride=2)
        blocks = []
        for number, stride in enumerate(_STRIDES):
            expand = take_convolution() if number else None
            blocks.append((expand, take_convolution(stride=stride), take_convolution()))
        top, sex, hidden, last = take_convolution(), take_dense(), take_dense(), take_dense()

        def answer(x: torch.Tensor, male: torch.Tensor) -> torch.Tensor:
            x = functional.relu6(convolve(x, stem))
            for expand, depthwise, project in blocks:
                y = x if expand is None else functional.relu6(convolve(x, expand))
                y = convolve(functional.relu6(convolve(y, depthwise)), project)
                x = x + y if x.shape == y.shape else y
            x = functional.relu6(convolve(x, top)).mean((2, 3))
            x = torch.cat([x, functional.relu(functional.linear(male, *sex))], 1)
            return functional.linear(functional.relu(functional.linear(x, *hidden)), *last)

        return answer

    members = []
    while arrays:
        members.append(take_member())
    target = json.loads((BUNDLE / "metadata.json").read_text(encoding="utf-8"))["target"]

    @torch.inference_mode()
    def answer(image: np.ndarray, male: np.ndarray) -> np.ndarray:
        grey = torch.from_numpy(image).permute(0, 3, 1, 2) * (255 / 128) - 127 / 128
        x = grey.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        x = torch.stack([member(x, torch.from_numpy(male)) for member in members]).mean(0)
        return (x * target["std_months"] + target["mean_months"]).numpy()

    return answer


RUNTIMES = {"onnxruntime": load_by_onnxruntime, "tensorflow": load_by_tensorflow, "torch": load_by_torch}


def main() -> None:
    """Load, answer, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runtime", choices=RUNTIMES)
    parser.add_argument("--batch", type=int, default=1, help="images at a time")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long to go on")
    options = parser.parse_args()
    answer = RUNTIMES[options.runtime]()
    rng = np.random.default_rng(0)
    size = json.loads((BUNDLE / "metadata.json").read_text(encoding="utf-8"))["input_size"]
    image = rng.random((options.batch, size, size, 1), np.float32)
    male = (np.arange(options.batch, dtype=np.float32) % 2)[:, None]
    months = answer(image, male)  # which the first time is slower
    began, count = time.perf_counter(), 0
    while options.seconds and time.perf_counter() - began < options.seconds:
        answer(image, male)
        count += options.batch
    told = {
        "version": importlib.import_module(options.runtime).__version__,
        "months": months.ravel().tolist(),
        "seconds_per_image": (time.perf_counter() - began) / count if count else None,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
