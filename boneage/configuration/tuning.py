"""The search space of `boneage tune`: the table `[tune]` of an experiment."""

import dataclasses

from boneage.base.errors import check_choice, check_positive
from boneage.configuration.training import ACTIVATIONS, HEADS, LOSSES, OPTIMIZERS, POOLINGS, SEX_JOINS, check_trainable


@dataclasses.dataclass(frozen=True)
class TuneConfig:
    """The search space of `boneage tune`, and how trials are evaluated.

    Args:
        heads: Output layers: `"regression"` or `"distribution"`, see the table `[train]`.
        num_layers: Numbers of hidden dense layers; 0 connects the output directly to the features.
        units: Units of a hidden layer, the same for all layers of a head.
        sex_widths: Units of the dense layer on the sex.
        sex_places: Where that layer is concatenated with the features: `"before"` or `"after"` the hidden layers.
        dropouts: Dropout rates in [0, 1) before the hidden layers.
        activations: Activations of the hidden layers: `"relu"`, `"gelu"`, `"swish"`.
        poolings: Global poolings of the feature map: `"average"`, `"max"`, `"both"` concatenated, or `"gem"`.
        losses: Losses: `"mae"`, `"mse"`, `"huber"` or `"log_cosh"`, in months.
        optimizers: Optimizers: `"adamw"`, `"adam"` (without weight decay) or `"sgd"` (with momentum).
        learning_rates: Lowest and highest peak learning rate, followed by cosine decay to zero.
        weight_decays: Lowest and highest decoupled weight decay of kernels.
        input_sizes: Input sizes in pixels; empty for that of the table `[train]`.
        trainables: The layers to train, see the table `[train]`; empty for those set there.
        trial_epochs: Maximum number of epochs of a trial.
        trial_seconds: Time limit of a trial, in seconds; a trial that needs longer has failed. 0 sets no limit.
        num_folds: Number of folds of the training split for cross-validation; 1 holds out one tenth instead.
        best_k: Number of heads in the report.
    """

    heads: tuple[str, ...] = ("regression",)
    num_layers: tuple[int, ...] = (1, 2, 3)
    units: tuple[int, ...] = (64, 128, 256, 512, 1000)
    sex_widths: tuple[int, ...] = (8, 32, 128)
    sex_places: tuple[str, ...] = SEX_JOINS
    dropouts: tuple[float, ...] = (0.0, 0.2, 0.4)
    activations: tuple[str, ...] = ACTIVATIONS
    poolings: tuple[str, ...] = ("average",)
    losses: tuple[str, ...] = ("mae", "huber", "log_cosh")
    optimizers: tuple[str, ...] = OPTIMIZERS
    learning_rates: tuple[float, float] = (3e-4, 1e-2)
    weight_decays: tuple[float, float] = (1e-4, 1e-1)
    input_sizes: tuple[int, ...] = ()
    trainables: tuple[str | int, ...] = ()
    trial_epochs: int = 6
    trial_seconds: float = 0.0
    num_folds: int = 1
    best_k: int = 5

    def __post_init__(self) -> None:
        """Check every value."""
        known = {
            "heads": HEADS,
            "sex_places": SEX_JOINS,
            "activations": ACTIVATIONS,
            "poolings": POOLINGS,
            "losses": LOSSES,
            "optimizers": OPTIMIZERS,
        }
        for name, choices in known.items():
            for value in getattr(self, name):
                check_choice(name, value, choices)
        for name in ("num_layers", "units", "sex_widths", "dropouts", *known):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"`{name}` must contain one or more distinct values. Received: {list(values)}.")
        if min(self.num_layers) < 0 or min(self.units) < 1 or min(self.sex_widths) < 1:
            raise ValueError("`num_layers` must not be negative, and `units` and `sex_widths` must be positive.")
        if not all(0 <= dropout < 1 for dropout in self.dropouts):
            raise ValueError(f"`dropouts` must lie in [0, 1). Received: {list(self.dropouts)}.")
        for name in ("learning_rates", "weight_decays"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"`{name}` must be a positive lowest and highest value. Received: {[low, high]}.")
        if self.trial_seconds < 0:
            raise ValueError(f"`trial_seconds` must not be negative. Received: {self.trial_seconds}.")
        check_positive(self, "trial_epochs", "num_folds", "best_k")
        if any(size < 1 for size in self.input_sizes):
            raise ValueError(f"`input_sizes` must be positive. Received: {list(self.input_sizes)}.")
        for trainable in self.trainables:
            check_trainable("trainables", trainable)
