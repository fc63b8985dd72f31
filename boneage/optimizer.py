"""The one optimizer of this package: AdamW, warmed up, then lowered to zero along a cosine."""

import keras


def build_optimizer(
    learning_rate: float, *, steps: int, warmup_steps: int, weight_decay: float
) -> keras.optimizers.Optimizer:
    """Build AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) with its schedule (2017, arXiv:1608.03983).

    Args:
        learning_rate: Highest learning rate.
        steps: Number of batches, warm-up included.
        warmup_steps: Batches over which the learning rate rises linearly from zero; 0 begins at the highest.
        weight_decay: Decoupled weight decay of kernels; biases and normalisations have none.
    """
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup_steps else learning_rate,
        steps - warmup_steps,
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
