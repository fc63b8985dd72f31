"""Running out of memory in training: what to say, and the same training in smaller parts."""

import contextlib
import dataclasses
from collections.abc import Iterator

import tensorflow as tf

from boneage.configuration.training import TrainConfig
from boneage.training.run_folder import TrainingError

OUT_OF_MEMORY = (MemoryError, tf.errors.ResourceExhaustedError)
"""What is raised where the memory of this machine, or of its GPU, does not suffice."""


def divide(config: TrainConfig, *, num_replicas: int = 1) -> TrainConfig | None:
    """Return the same training with half as many radiographs at once, whose gradients are summed.

    Args:
        config: The table `[train]` of the experiment.
        num_replicas: Number of replicas, which divide each batch equally.

    Returns:
        The settings with twice the `accumulate_steps`; None where the batch cannot be divided further.
    """
    parts = 2 * config.accumulate_steps
    return None if config.batch_size % (parts * num_replicas) else dataclasses.replace(config, accumulate_steps=parts)


@contextlib.contextmanager
def explain_out_of_memory(config: TrainConfig, *, num_replicas: int) -> Iterator[None]:
    """Convert errors about too little memory to a `TrainingError` that names what to try.

    Args:
        config: The table `[train]` of the experiment.
        num_replicas: Number of replicas.

    Raises:
        TrainingError: Instead of these errors.
    """
    try:
        yield
    except OUT_OF_MEMORY as error:
        at_once = config.batch_size // (num_replicas * config.accumulate_steps)
        smaller = divide(config, num_replicas=num_replicas)
        fix = "lower input_size, or choose a smaller network"
        if smaller is not None:
            fix = (
                f"try --set batch_size={config.batch_size // 2}, or --set accumulate_steps={smaller.accumulate_steps}, "
                "which keeps the batch and computes it in parts"
            )
        raise TrainingError(
            f"out of memory at batch_size={config.batch_size} ({at_once} at once on a device, of {config.input_size} "
            f"px); {fix}."
        ) from error
