"""How the hand networks are trained: the settings of `train-unet` and `train-landmarks`."""

import dataclasses

from boneage.base.errors import check_positive


@dataclasses.dataclass(frozen=True)
class HandTrainingConfig:
    """How a hand network is trained.

    Args:
        steps: Number of batches.
        batch_size: Number of radiographs in a batch.
        learning_rate: Peak learning rate, reached after 5% of the steps and followed by cosine decay to zero.
        weight_decay: Decoupled weight decay of kernels.
        seed: Seed of all random numbers.
    """

    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every value."""
        check_positive(self, "steps", "batch_size", "learning_rate")
