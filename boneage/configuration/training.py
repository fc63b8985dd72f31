"""How a network is built and trained: the table `[train]` of an experiment."""

import dataclasses

from boneage.base.errors import check_choice, check_positive
from boneage.configuration.networks import SEX_UNITS, TASKS, get_network, layer_of_network

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
LOSSES = ("mae", "mse", "huber", "log_cosh")
SEX_JOINS = ("before", "after")
ACTIVATIONS = ("relu", "gelu", "swish")
POOLINGS = ("average", "max", "both", "gem")
HEADS = ("regression", "distribution")
LABEL_WEIGHTS = ("equal", "readers")
OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "one_cycle")
AGE_INPUTS = {
    "none": (),
    "input": ("chronological_age_months", "age_is_known"),
    "relative": ("chronological_age_months",),
}
"""The inputs of a network for each use of the chronological age: float32 `(batch, 1)`, the age in months, 0 where it is
unknown, and 1 where it is known, else 0."""
TTA_TRANSFORMS = {
    "none": ((0.0, False),),
    "mirrored": ((0.0, False), (0.0, True)),
    "ten": tuple((angle, mirrored) for angle in (0.0, -10.0, -5.0, 5.0, 10.0) for mirrored in (False, True)),
}
"""The transforms of each mode of test-time augmentation: rotation in degrees, and whether mirrored."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a network is built and trained.

    Args:
        task: `"age"` for bone age in months, or `"sex"` for sex classification.
        network: `"efficientnet_lite0"`, `"efficientnetb4"`, `"inceptionv3"` or `"resnet50"`; any model of
            `keras.applications`, for example `"keras:ConvNeXtTiny"`; or the name of a backbone of your own, see
            `boneage.register_backbone`.
        input_size: Height and width of the network's input, in pixels.
        init: Initial weights: `"imagenet"`, `"none"` (random), `"default"` (the packaged bundle), another bundle (a
            folder, `models:/NAME@ALIAS` or `hf://owner/name@revision`), or the path of a weights file. A bundle
            initialises the backbone, and the head if its layers are the same.
        trainable: The layers to train: `"all"`, `"head"`, or the head and this number of the backbone's last layers,
            counted in layers with weights. Batch normalisations of frozen layers keep their statistics.
        head_epochs: Number of the first epochs, out of `epochs`, in which only the head is trained. Each of the two
            phases has its own cosine schedule; the second one has the warm-up.
        layer_decay: Factor in (0, 1] of the learning rate from each of the backbone's layers with weights to the layer
            below, starting below the head.
        use_sex: Whether the sex is an input of the network.
        chronological_age: Whether the network is given the chronological age: `"none"`; `"input"`, beside the sex,
            which may be unknown: in training it is left out of a fifth of the radiographs; or `"relative"`, the network
            predicts the difference of the bone age from it, and answers nothing where it is unknown. Both pull the
            answer towards normal.
        head: `"regression"`, the output layer predicts the bone age; or `"distribution"`, it predicts the probability
            of each month from 0 to 240, whose expectation is the bone age, see `boneage.training.losses`.
        head_units: Units of the hidden dense layers of the head; empty for the network's default, `[0]` for no hidden
            layer.
        dropout: Dropout rate before the head.
        pooling: Global pooling of the feature map: `"average"`, `"max"`, `"both"` concatenated, or `"gem"`, the
            generalised mean with a learnt exponent.
        activation: Activation of the hidden layers: `"relu"`, `"gelu"` or `"swish"`.
        sex_units: Units of the dense layer on the sex.
        sex_joins: Where that layer is concatenated with the features: `"before"` or `"after"` the hidden layers.
        standardize_target: Whether the last layer rescales by the mean and standard deviation of the training ages; the
            head `"distribution"` has no such layer.
        epochs: Number of passes over the training split.
        batch_size: Number of radiographs in a batch, over all replicas.
        accumulate_steps: Number of equal parts of each batch, whose gradients are computed one after the other and
            summed, so that a batch needs less memory. Batch normalisation sees one part at a time.
        learning_rate: Peak learning rate, reached after the warm-up.
        schedule: `"cosine"`, linear warm-up and cosine decay to zero, or `"one_cycle"`, a cosine rise in the first 30%
            of the steps and a cosine decay, see `boneage.training.optimizer.OneCycle`.
        warmup_epochs: Number of epochs of linear warm-up of the schedule `"cosine"`.
        optimizer: `"adamw"`, `"adam"` (without weight decay) or `"sgd"` (with momentum).
        weight_decay: Decoupled weight decay of kernels.
        clip_norm: Largest norm of the gradient of a batch, over all weights together; 0 turns clipping off.
        ema_momentum: Momentum in [0, 1) of the exponential moving average of the weights. Where it is above 0, the
            averaged weights are validated and saved; for example 0.999.
        loss: `"mae"`, `"mse"`, `"huber"` or `"log_cosh"`, in months; the task `"sex"` uses the binary cross-entropy.
        outer_weight: How much more the youngest and the oldest count in the loss of the task `"age"`: a bone age `z`
            standard deviations from the mean of the train split has the weight
            `(1 + outer_weight * z**2) / (1 + outer_weight)`, which is 1 in the mean. 0 weighs all alike.
        label_weights: How much each label counts in the loss of the task `"age"`: `"equal"`, or `"readers"`, the
            inverse variance of a label that joins readings, from their number and standard deviation in the records,
            see `boneage.tfrecords.label_weights`; the mean weight over the train split is 1.
        patience_epochs: Number of epochs without improvement of the validation metric before training stops; 0 turns
            early stopping off.
        tta: Test-time augmentation of the saved bundle: `"none"`, `"mirrored"` (image and mirror image) or `"ten"`
            (both also rotated by up to 10 degrees). The network should be trained with such images (`flip_share`,
            `rotation_degrees`). Does not affect training.
        precision: `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"`, or `"auto"`, the fastest of them that the GPUs
            compute in hardware (float32 without a GPU), see `boneage.training.distribution.resolve_precision`.
        seed: Seed of all random numbers.
    """

    task: str = "age"
    network: str = "efficientnet_lite0"
    input_size: int = 128
    init: str = "imagenet"
    trainable: str | int = "all"
    head_epochs: int = 0
    layer_decay: float = 1.0
    use_sex: bool = True
    chronological_age: str = "none"
    head: str = "regression"
    head_units: tuple[int, ...] = ()
    dropout: float = 0.0
    pooling: str = "average"
    activation: str = "relu"
    sex_units: int = SEX_UNITS
    sex_joins: str = "before"
    standardize_target: bool = True
    epochs: int = 14
    batch_size: int = 32
    accumulate_steps: int = 1
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    clip_norm: float = 0.0
    ema_momentum: float = 0.0
    loss: str = "mae"
    outer_weight: float = 0.0
    label_weights: str = "equal"
    patience_epochs: int = 0
    tta: str = "none"
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every value."""
        check_choice("task", self.task, TASKS)
        get_network(self.network)
        check_choice("loss", self.loss, LOSSES)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("tta", self.tta, tuple(TTA_TRANSFORMS))
        check_choice("head", self.head, HEADS)
        check_choice("chronological_age", self.chronological_age, tuple(AGE_INPUTS))
        check_choice("pooling", self.pooling, POOLINGS)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("sex_joins", self.sex_joins, SEX_JOINS)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("label_weights", self.label_weights, LABEL_WEIGHTS)
        check_positive(self, "input_size", "epochs", "batch_size", "accumulate_steps", "learning_rate", "sex_units")
        not_negative = ("warmup_epochs", "weight_decay", "clip_norm", "patience_epochs", "head_epochs", "seed")
        for name in (*not_negative, "outer_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative. Received: {getattr(self, name)}.")
        if self.task == "sex" and self.use_sex:
            raise ValueError("`use_sex` must be false for the task 'sex'. Received: true.")
        if self.task == "sex" and self.label_weights != "equal":
            raise ValueError(f"`label_weights` must be 'equal' for the task 'sex'. Received: {self.label_weights!r}.")
        if self.task == "sex" and self.head != "regression":
            raise ValueError(f"`head` must be 'regression' for the task 'sex'. Received: {self.head!r}.")
        if self.task == "sex" and self.chronological_age != "none":
            raise ValueError(
                f"`chronological_age` must be 'none' for the task 'sex'. Received: {self.chronological_age!r}."
            )
        if self.chronological_age == "relative" and self.head != "regression":
            raise ValueError(
                f"`head` must be 'regression' for the chronological age 'relative'. Received: {self.head!r}."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must lie in [0, 1). Received: {self.dropout}.")
        if not self.init:
            raise ValueError(
                "`init` must be 'imagenet', 'none', 'default', a bundle folder or a weights file. Received: ''."
            )
        if self.head_units != (0,) and any(units < 1 for units in self.head_units):
            raise ValueError(
                f"`head_units` must be positive, or [0] for no hidden layer. Received: {list(self.head_units)}."
            )
        check_trainable("trainable", self.trainable)
        if not 0 <= self.ema_momentum < 1:
            raise ValueError(f"`ema_momentum` must lie in [0, 1). Received: {self.ema_momentum}.")
        if self.batch_size % self.accumulate_steps:
            raise ValueError(
                "`batch_size` must be a multiple of `accumulate_steps`. "
                f"Received: {self.batch_size} and {self.accumulate_steps}."
            )
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"`layer_decay` must lie in (0, 1]. Received: {self.layer_decay}.")
        if self.warmup_epochs >= self.epochs - self.head_epochs:
            raise ValueError(
                "`warmup_epochs` must be below `epochs` minus `head_epochs`. "
                f"Received: {self.warmup_epochs}, {self.epochs} and {self.head_epochs}."
            )

    @property
    def hidden_units(self) -> tuple[int, ...]:
        """Units of the hidden dense layers of the head, either set here or the network's default."""
        if self.head_units == (0,):
            return ()
        return self.head_units or get_network(self.network).head_units

    @property
    def backbone(self) -> str:
        """Name of the backbone's layer in the network."""
        return layer_of_network(self.network)

    @property
    def metric(self) -> str:
        """The validation metric that selects the best epoch, lower is better: `"mae"` in months, or `"error_share"`."""
        return "mae" if self.task == "age" else "error_share"


def check_trainable(name: str, value: str | int) -> None:
    """Check a setting of the layers to train.

    Raises:
        ValueError: If it is neither `"all"`, `"head"` nor a positive number of layers.
    """
    if value not in ("all", "head") and not (isinstance(value, int) and value > 0):
        raise ValueError(f"`{name}` must be 'all', 'head' or a positive number of layers. Received: {value!r}.")
