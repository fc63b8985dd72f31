"""How the work of a training run is divided: over the devices of one machine, or over several machines.

A *worker* is one process on one machine, a *replica* one device of it. Every replica gets an equal part of each batch,
so that a run divided in any way has the losses of the same run on one device. The first worker is the chief: it alone
writes the run folder, which the others must be able to read.
"""

import contextlib
import json
import os
from collections.abc import Iterator

import tensorflow as tf

from boneage.config import TrainConfig
from boneage.run_folder import TrainingFailed
from tfrecords.errors import check_choice

DISTRIBUTIONS = ("auto", "none", "mirrored", "multiworker")

# What the collective operations raise where a worker is gone; which one depends on who notices first.
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
    """Build what divides the work. Must come before any other use of TensorFlow where there are several workers.

    Args:
        distribution: `"none"` uses one device, `"mirrored"` all GPUs of this machine, `"multiworker"` all the workers
            that the environment variable `TF_CONFIG` names, and `"auto"` the last of them that applies.

    Raises:
        ValueError: If the choice is unknown.
        TrainingFailed: If `TF_CONFIG` does not name the workers, or TensorFlow was in use before.
    """
    check_choice("distribution", distribution, DISTRIBUTIONS)
    if distribution == "auto":
        several = len(tf.config.list_physical_devices("GPU")) > 1
        distribution = "multiworker" if _num_configured() > 1 else "mirrored" if several else "none"
    if distribution == "multiworker":
        if not _num_configured():
            raise TrainingFailed(
                "`distribution` 'multiworker' needs the workers in TF_CONFIG, for example "
                '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}.'
            )
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except RuntimeError as error:
            raise TrainingFailed(f"Start each worker in a process of its own: {error}") from error
    if distribution == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def _num_configured() -> int:
    """Count the workers that TF_CONFIG names; 0 without it."""
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        cluster = json.loads(text).get("cluster", {})
        return len(cluster.get("chief", [])) + len(cluster.get("worker", []))
    except (ValueError, AttributeError, TypeError) as error:
        raise TrainingFailed(f"TF_CONFIG does not describe workers ({error}). Received: {text}.") from error


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Count the workers."""
    return strategy.num_replicas_in_sync // _num_local_replicas(strategy)


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """Return the number of this worker; the chief is 0."""
    if num_workers(strategy) == 1:
        return 0
    resolver = strategy.cluster_resolver
    follows_chief = resolver.task_type == "worker" and "chief" in resolver.cluster_spec().jobs
    return resolver.task_id + int(follows_chief)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Tell whether this worker is the one that writes."""
    return worker_index(strategy) == 0


def _num_local_replicas(strategy: tf.distribute.Strategy) -> int:
    # TensorFlow's own stand-in for no strategy has no list of devices.
    return 1 if strategy.num_replicas_in_sync == 1 else len(strategy.extended.worker_devices)


def check_divisible(strategy: tf.distribute.Strategy, config: TrainConfig) -> None:
    """Check that the replicas can have equal parts in the training.

    Raises:
        TrainingFailed: If a batch cannot be divided equally, or the precision cannot be had on several replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise TrainingFailed(
            f"`batch_size` is that of all replicas together and must be a multiple of their number, {replicas}. "
            f"Received: {config.batch_size}."
        )
    if replicas > 1 and config.precision == "mixed_float16":
        # Keras 3.15 looks for overflow in the gradients of the first replica alone, before they are added up.
        raise TrainingFailed(
            f"`precision` 'mixed_float16' works on one replica only, and there are {replicas}; use 'mixed_bfloat16'."
        )


def wait_for_workers(strategy: tf.distribute.Strategy) -> None:
    """Return once every worker has come here."""
    if num_workers(strategy) > 1:
        ones = strategy.run(lambda: tf.ones(()))
        strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None).numpy()


def distribute(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> tf.data.Dataset:
    """Divide each batch of this worker among its replicas.

    Args:
        batches: Batches of this worker, nested tensors of equal first dimension.
        strategy: What divides the work.

    Returns:
        A distributed dataset; where a batch has too few examples, the last replicas get fewer or none.
    """
    replicas = _num_local_replicas(strategy)

    def divide(*batch: tf.Tensor) -> tf.data.Dataset:
        size = tf.shape(tf.nest.flatten(batch)[0], out_type=tf.int64)[0]
        part = -(-size // replicas)
        return tf.data.Dataset.range(replicas).map(
            lambda replica: tf.nest.map_structure(lambda whole: whole[replica * part : (replica + 1) * part], batch)
        )

    parts = batches
    if replicas > 1:
        num_batches = batches.cardinality()
        parts = batches.flat_map(divide)
        # Told that a stream is endless, TensorFlow does not ask all workers before each step whether it goes on.
        parts = parts.apply(
            tf.data.experimental.assert_cardinality(num_batches * replicas if num_batches > 0 else num_batches)
        )
    return strategy.distribute_datasets_from_function(lambda _: parts.prefetch(tf.data.AUTOTUNE))


@contextlib.contextmanager
def name_lost_worker(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turn TensorFlow's complaint about a worker that is gone into one line.

    Raises:
        TrainingFailed: In place of TensorFlow's error.
    """
    try:
        yield
    except LOST_WORKER_ERRORS as error:
        if num_workers(strategy) == 1:
            raise
        raise TrainingFailed(
            "Another worker was lost, or ended with an error of its own; start all workers again with --resume."
        ) from error
