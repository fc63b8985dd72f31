"""Train a network for some steps in torch, as `tools/on_gpu.py` does, and print the CPU seconds that an image takes.

    python benchmarks/torch_step.py network.npz 16 128

The file is one that `pack_network` of `tools/on_gpu.py` wrote; then come images in a batch and their side in pixels.
Runs where torch is installed, which is not beside TensorFlow.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from on_gpu import apply_gradients, build_optimizer
from torch_network import TorchNetwork

_WARM_UP_STEPS, _STEPS = 2, 5


def main() -> None:
    """Train and tell."""
    path, batch_size, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with np.load(path, allow_pickle=False) as file:
        layers = json.loads(str(file["about"]))["layers"]
        network = TorchNetwork(layers, {name: file[name] for name in file.files if name != "about"}).train()
    optimizer = build_optimizer(network, learning_rate=1e-3, weight_decay=0.01)
    torch.manual_seed(0)
    images = torch.rand(batch_size, 1, size, size).contiguous(memory_format=torch.channels_last)
    male = (torch.arange(batch_size) % 2).float()[:, None]
    months = 1 + 227 * torch.rand(batch_size, 1)
    began = time.process_time()
    for number in range(_WARM_UP_STEPS + _STEPS):
        if number == _WARM_UP_STEPS:
            began = time.process_time()
        apply_gradients(optimizer, network(images, male), months, task="age", learning_rate=1e-3)
    print((time.process_time() - began) / (_STEPS * batch_size))


if __name__ == "__main__":
    main()
