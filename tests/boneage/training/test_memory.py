import dataclasses

import pytest
import tensorflow as tf

from boneage.configuration.training import TrainConfig
from boneage.training.memory import divide, explain_out_of_memory
from boneage.training.run_folder import TrainingError

CONFIG = TrainConfig(batch_size=32, input_size=500)


@pytest.mark.parametrize(
    ("batch_size", "parts", "num_replicas", "expected"),
    [(32, 1, 1, 2), (12, 2, 1, 4), (6, 2, 1, None), (4, 1, 4, None)],
)
def test_divide_doubles_the_parts_of_a_batch(batch_size, parts, num_replicas, expected):
    config = TrainConfig(batch_size=batch_size, accumulate_steps=parts)
    divided = divide(config, num_replicas=num_replicas)
    assert divided == (expected and dataclasses.replace(config, accumulate_steps=expected))


@pytest.mark.parametrize(
    "error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nx")]
)
def test_explain_out_of_memory_names_the_batch_size_to_try(error):
    with pytest.raises(TrainingError) as caught, explain_out_of_memory(CONFIG, num_replicas=2):
        raise error
    assert str(caught.value) == (
        "out of memory at batch_size=32 (16 at once on a device, of 500 px); try --set batch_size=16, or --set "
        "accumulate_steps=2, which keeps the batch and computes it in parts."
    )


def test_explain_out_of_memory_of_one_radiograph_names_another_fix():
    config = dataclasses.replace(CONFIG, batch_size=1)
    with (
        pytest.raises(TrainingError, match=r"\(1 at once on a device, of 500 px\); lower input_size"),
        explain_out_of_memory(config, num_replicas=1),
    ):
        raise MemoryError


def test_explain_out_of_memory_leaves_other_errors():
    with pytest.raises(ValueError, match="another"), explain_out_of_memory(CONFIG, num_replicas=1):
        raise ValueError("another")
