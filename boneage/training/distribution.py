"""Data-parallel training on the devices of one machine or on several machines.

A *worker* is one process on one machine, a *replica* is one of its devices. Every replica gets an equal part of each
batch, so that the losses are the same as on one device. The first worker is the chief: only the chief writes the run
folder, which must be shared with the other workers.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator

import tensorflow as tf

from boneage.base.errors import check_choice
from boneage.configuration.training import TrainConfig
from boneage.training.run_folder import TrainingError

DISTRIBUTIONS = ("auto", "none", "mirrored", "multiworker")

# Errors of collective operations after the loss of a worker; which one is raised depends on timing.
LOST_WORKER_ERRORS = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)


def build_strategy(distribution: str = "auto") -> tf.distribute.Strategy:
    """Build the distribution strategy. With several workers, call this before any other use of TensorFlow.

    Args:
        distribution: `"none"` (one device), `"mirrored"` (all GPUs of this machine), `"multiworker"` (all workers in
            the environment variable `TF_CONFIG`), or `"auto"` (the last of them that applies).

    Raises:
        ValueError: If `distribution` is unknown.
        TrainingError: If `TF_CONFIG` does not list workers, or TensorFlow is already initialised.
    """
    check_choice("distribution", distribution, DISTRIBUTIONS)
    if distribution == "auto":
        several = len(tf.config.list_physical_devices("GPU")) > 1
        distribution = "multiworker" if _num_configured() > 1 else "mirrored" if several else "none"
    if distribution == "multiworker":
        if not _num_configured():
            raise TrainingError(
                "`distribution` 'multiworker' needs the workers in TF_CONFIG, for example "
                '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}.'
            )
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except RuntimeError as error:
            raise TrainingError(f"Run each worker in its own process: {error}") from error
    if distribution == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def _num_configured() -> int:
    """Return the number of workers in TF_CONFIG; 0 if it is not set."""
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        cluster = json.loads(text).get("cluster", {})
        return len(cluster.get("chief", [])) + len(cluster.get("worker", []))
    except (ValueError, AttributeError, TypeError) as error:
        raise TrainingError(f"TF_CONFIG does not describe workers ({error}). Received: {text}.") from error


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Return the number of workers."""
    return int(strategy.num_replicas_in_sync) // _num_local_replicas(strategy)


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """Return the index of this worker; the chief is 0."""
    if num_workers(strategy) == 1:
        return 0
    resolver = strategy.cluster_resolver
    follows_chief = resolver.task_type == "worker" and "chief" in resolver.cluster_spec().jobs
    return int(resolver.task_id) + int(follows_chief)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Return whether this worker is the chief."""
    return worker_index(strategy) == 0


def _num_local_replicas(strategy: tf.distribute.Strategy) -> int:
    # TensorFlow's default strategy has no list of devices.
    return 1 if strategy.num_replicas_in_sync == 1 else len(strategy.extended.worker_devices)


def check_divisible(strategy: tf.distribute.Strategy, config: TrainConfig) -> None:
    """Check that the training can be distributed equally over the replicas.

    Raises:
        TrainingError: If the batch size is not a multiple of the number of replicas, or the precision is not supported
            on several replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % (replicas * config.accumulate_steps):
        times = f", times {config.accumulate_steps} `accumulate_steps`" if config.accumulate_steps > 1 else ""
        raise TrainingError(
            f"`batch_size` is the global batch size and must be a multiple of the {replicas} replicas{times}. "
            f"Received: {config.batch_size}."
        )
    if replicas > 1 and config.precision == "mixed_float16":
        # Keras 3.15 checks only the gradients of the first replica for overflow, before they are summed.
        raise TrainingError(
            f"`precision` 'mixed_float16' is supported on one replica only; use 'mixed_bfloat16'. "
            f"Received: {replicas} replicas."
        )


def resolve_precision(config: TrainConfig, strategy: tf.distribute.Strategy) -> TrainConfig:
    """Replace the precision `"auto"` by the one to train in on the GPUs of this machine.

    NVIDIA's GPUs multiply in float16 from compute capability 7.0 on (V100, T4) and in bfloat16 from 8.0 on (A100, L4);
    bfloat16 needs no loss scaling. The slowest GPU decides. With several replicas float16 is not supported.

    Args:
        config: The table `[train]` of the experiment.
        strategy: The distribution strategy.

    Returns:
        The same settings, with a precision other than `"auto"`.
    """
    if config.precision != "auto":
        return config
    devices = tf.config.list_physical_devices("GPU")
    # Other vendors' GPUs state no compute capability.
    found = [tf.config.experimental.get_device_details(device).get("compute_capability", (0, 0)) for device in devices]
    capability, precision = min(found, default=(0, 0)), "float32"
    if capability >= (8, 0):
        precision = "mixed_bfloat16"
    elif capability >= (7, 0) and strategy.num_replicas_in_sync == 1:
        precision = "mixed_float16"
    return dataclasses.replace(config, precision=precision)


def wait_for_workers(strategy: tf.distribute.Strategy) -> None:
    """Block until every worker has called this function."""
    if num_workers(strategy) > 1:
        ones = strategy.run(lambda: tf.ones(()))
        strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None).numpy()


def distribute(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> tf.data.Dataset:
    """Split each batch of this worker between its replicas.

    Args:
        batches: Batches of this worker, nested tensors of equal first dimension.
        strategy: The distribution strategy.

    Returns:
        A distributed dataset; if a batch has too few examples, the last replicas get fewer or none.
    """
    replicas = _num_local_replicas(strategy)

    def divide(*batch: tf.Tensor) -> tf.data.Dataset:
        size = tf.shape(tf.nest.flatten(batch)[0], out_type=tf.int64)[0]
        part = -(-size // replicas)
        return tf.data.Dataset.range(replicas).map(
            lambda replica: tf.nest.map_structure(lambda tensor: tensor[replica * part : (replica + 1) * part], batch)
        )

    divided = batches
    if replicas > 1:
        num_batches = batches.cardinality()
        divided = batches.flat_map(divide)
        # With a known cardinality TensorFlow does not synchronise all workers before each step.
        divided = divided.apply(
            tf.data.experimental.assert_cardinality(num_batches * replicas if num_batches > 0 else num_batches)
        )
    return strategy.distribute_datasets_from_function(lambda _: divided.prefetch(tf.data.AUTOTUNE))


@contextlib.contextmanager
def explain_lost_worker(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Convert TensorFlow's errors about a lost worker to a `TrainingError`.

    Raises:
        TrainingError: Instead of TensorFlow's error.
    """
    try:
        yield
    except LOST_WORKER_ERRORS as error:
        if num_workers(strategy) == 1:
            raise
        raise TrainingError(
            "Another worker failed or became unreachable; restart all workers with --resume."
        ) from error
