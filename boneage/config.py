"""Experiments: one TOML file, checked, with overrides from the command line."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from boneage.models.networks import NETWORKS, SEX_UNITS, TASKS
from boneage.views import VIEWS
from tfrecords.errors import BoneAgeError, check_choice, check_positive, closest

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
LOSSES = ("mae", "mse", "huber", "log_cosh")
SEX_JOINS = ("before", "after")
ACTIVATIONS = ("relu", "gelu", "swish")
POOLINGS = ("average", "max", "both")
OPTIMIZERS = ("adamw", "adam", "sgd")

T = TypeVar("T")


class ConfigError(BoneAgeError, ValueError):
    """A configuration with an unknown key or a value out of range."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a network is built and trained.

    Args:
        task: `"age"`, or `"sex"` for a network that tells the sex from the radiograph.
        network: `"efficientnet_lite0"`, `"efficientnetb4"`, `"inceptionv3"` or `"resnet50"`.
        input_size: Side of the network's input in pixels.
        init: Weights to begin with: `"imagenet"`, `"none"`, `"default"` for the bundle in the package, the folder of a
            bundle, or the path of a weights file. Of a bundle the tower is taken, and the head too where its layers are
            alike.
        trainable: What learns: `"all"`, `"head"`, or the number of the tower's last layers, counted in layers with
            weights, that learn with the head. Batch normalisations of the others keep their statistics.
        head_epochs: Epochs, of `epochs`, in which the head learns alone before what `trainable` tells does. Each of the
            two phases has a cosine of its own; the second one has the warm-up.
        layer_decay: Factor in (0, 1] by which the learning rate falls from each of the tower's layers with weights to
            the one below, beginning under the head.
        use_sex: Whether the network is told the sex.
        head_units: Widths of the hidden dense layers of the head; the network's own default where empty, and `[0]` for
            a head without any.
        dropout: Share of units dropped before the head.
        pooling: What the head takes of the feature map: its `"average"`, its `"max"`, or `"both"` side by side.
        activation: Activation of the hidden layers: `"relu"`, `"gelu"` or `"swish"`.
        sex_units: Width of the dense layer on the sex.
        sex_joins: Where that layer joins the features: `"before"` or `"after"` the hidden layers.
        standardize_target: Whether the network's last layer carries the mean and spread of the training ages.
        epochs: Number of passes over the training split.
        batch_size: Radiographs in a batch.
        learning_rate: Highest learning rate; reached after the warm-up, then lowered to zero along a cosine.
        warmup_epochs: Epochs of linear warm-up.
        optimizer: `"adamw"`, `"adam"`, which has no weight decay, or `"sgd"` with momentum.
        weight_decay: Decoupled weight decay of kernels.
        loss: `"mae"`, `"mse"`, `"huber"` or `"log_cosh"`, in months; of the task `"sex"` it is the cross-entropy.
        patience_epochs: Epochs without a better validation MAE after which training stops; 0 never stops early.
        views: How the bundle looks at each radiograph, to answer with the mean: `"one"`, `"mirrored"` for the mirror
            image too, `"ten"` for both turned by up to ten degrees. It is for networks that were shown such
            (`flip_share`, `rotation_degrees`). Training itself is not changed.
        precision: `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`.
        seed: Seed of everything random.
    """

    task: str = "age"
    network: str = "efficientnet_lite0"
    input_size: int = 128
    init: str = "imagenet"
    trainable: str | int = "all"
    head_epochs: int = 0
    layer_decay: float = 1.0
    use_sex: bool = True
    head_units: tuple[int, ...] = ()
    dropout: float = 0.0
    pooling: str = "average"
    activation: str = "relu"
    sex_units: int = SEX_UNITS
    sex_joins: str = "before"
    standardize_target: bool = True
    epochs: int = 14
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_epochs: float = 1.0
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    loss: str = "mae"
    patience_epochs: int = 0
    views: str = "one"
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self):
        """Check every value."""
        check_choice("task", self.task, TASKS)
        check_choice("network", self.network, NETWORKS)
        check_choice("loss", self.loss, LOSSES)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("views", self.views, tuple(VIEWS))
        check_choice("pooling", self.pooling, POOLINGS)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("sex_joins", self.sex_joins, SEX_JOINS)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_positive(self, "input_size", "epochs", "batch_size", "learning_rate", "sex_units")
        for name in ("warmup_epochs", "weight_decay", "patience_epochs", "head_epochs", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative. Received: {getattr(self, name)}.")
        if self.task == "sex" and self.use_sex:
            raise ValueError("`use_sex` must be false for the task 'sex'. Received: true.")
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
        _check_trainable("trainable", self.trainable)
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"`layer_decay` must lie in (0, 1]. Received: {self.layer_decay}.")
        if self.warmup_epochs >= self.epochs - self.head_epochs:
            raise ValueError(
                "`warmup_epochs` must be below `epochs` less `head_epochs`. "
                f"Received: {self.warmup_epochs}, {self.epochs} and {self.head_epochs}."
            )

    @property
    def hidden_units(self) -> tuple[int, ...]:
        """Widths of the hidden dense layers of the head, whether named here or the network's own."""
        if self.head_units == (0,):
            return ()
        return self.head_units or NETWORKS[self.network].head_units

    @property
    def measure(self) -> str:
        """What an epoch is judged by, less being better: `"mae"` in months, or `"error_share"` of the sexes told."""
        return "mae" if self.task == "age" else "error_share"


def _check_trainable(name: str, value: str | int) -> None:
    if value not in ("all", "head") and not (isinstance(value, int) and value > 0):
        raise ValueError(f"`{name}` must be 'all', 'head' or a positive number of layers. Received: {value!r}.")


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Ranges of the augmentation; each value is drawn uniformly for each image.

    Args:
        rotation_degrees: Largest turn to either side, in degrees.
        shift_share: Largest shift to either side, as a share of the image's side.
        zoom_share: Scale drawn from `[1 - zoom_share, 1 + zoom_share]`.
        narrow_share: The width alone is scaled by a factor from `[1 - narrow_share, 1]`.
        flip_share: Share of the images that are mirrored left to right.
        gamma_share: Exponent of the grey values drawn log-uniformly from `[1 / (1 + gamma_share), 1 + gamma_share]`.
        contrast_share: Contrast around middle grey scaled by a factor from `[1 - contrast_share, 1 + contrast_share]`.
        brightness_share: Largest offset of the grey values to either side, as a share of their range.
        blur_px: Largest standard deviation of the Gaussian blur, in pixels.
        noise_share: Largest standard deviation of added Gaussian noise, as a share of the grey range.
    """

    rotation_degrees: float = 20.0
    shift_share: float = 0.1
    zoom_share: float = 0.15
    narrow_share: float = 0.1
    flip_share: float = 0.5
    gamma_share: float = 0.3
    contrast_share: float = 0.1
    brightness_share: float = 0.1
    blur_px: float = 0.0
    noise_share: float = 0.0

    def __post_init__(self):
        """Check every range."""
        limits = {"rotation_degrees": 180.0, "blur_px": 5.0, "gamma_share": 4.0, "zoom_share": 0.9, "narrow_share": 0.9}
        for field in dataclasses.fields(self):
            value, limit = getattr(self, field.name), limits.get(field.name, 1.0)
            if not 0 <= value <= limit:
                raise ValueError(f"`{field.name}` must lie in [0, {limit:g}]. Received: {value}.")


@dataclasses.dataclass(frozen=True)
class TuneConfig:
    """Among which heads a search looks, and how it judges each.

    Args:
        num_layers: Numbers of hidden dense layers; 0 reads the answer straight from the features.
        units: Widths of the hidden layers, one for all layers of a head.
        sex_widths: Widths of the dense layer on the sex.
        sex_places: Where that layer joins the features: `"before"` or `"after"` the hidden layers.
        dropouts: Shares in [0, 1) of the features dropped before the hidden layers.
        activations: `"relu"`, `"gelu"`, `"swish"`.
        poolings: What is taken of the feature map: its `"average"`, its `"max"`, or `"both"` side by side.
        losses: `"mae"`, `"mse"`, `"huber"` or `"log_cosh"`, in months.
        optimizers: `"adamw"`, `"adam"`, which has no weight decay, or `"sgd"` with momentum.
        learning_rates: Lowest and highest learning rate; each falls to zero along a cosine.
        weight_decays: Lowest and highest decoupled weight decay of kernels.
        input_sizes: Sides of the input in pixels; the experiment's where empty.
        trainables: What learns, as in the table `[train]`; the experiment's where empty.
        trial_epochs: Epochs of a trial, at most.
        num_folds: 1 judges by one tenth of the training split; more judge by that many folds, each in its turn.
        best_k: Number of heads to report.
    """

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
    num_folds: int = 1
    best_k: int = 5

    def __post_init__(self):
        """Check every value."""
        known = {
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
                raise ValueError(f"`{name}` must name one or more different values. Received: {list(values)}.")
        if min(self.num_layers) < 0 or min(self.units) < 1 or min(self.sex_widths) < 1:
            raise ValueError("`num_layers` must not be negative, and `units` and `sex_widths` must be positive.")
        if not all(0 <= dropout < 1 for dropout in self.dropouts):
            raise ValueError(f"`dropouts` must lie in [0, 1). Received: {list(self.dropouts)}.")
        for name in ("learning_rates", "weight_decays"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"`{name}` must be a positive lowest and highest value. Received: {[low, high]}.")
        check_positive(self, "trial_epochs", "num_folds", "best_k")
        if any(size < 1 for size in self.input_sizes):
            raise ValueError(f"`input_sizes` must be positive. Received: {list(self.input_sizes)}.")
        for trainable in self.trainables:
            _check_trainable("trainables", trainable)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment: the tables of its TOML file.

    Args:
        name: Name of the experiment, the file's name without its ending.
        train: Table `[train]`.
        augment: Table `[augment]`.
        tune: Table `[tune]`.
    """

    name: str
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
    tune: TuneConfig = TuneConfig()


def load_experiment(path: str | Path, *, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment from its TOML file.

    Args:
        path: The file, with the tables `[train]`, `[augment]` and `[tune]`, all optional.
        overrides: `key=value` or `table.key=value`, the value as TOML writes it; plain words need no quotes.

    Raises:
        ConfigError: If the file is missing or no TOML, a key is unknown, or a value is out of range.
    """
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; name an experiment file, such as those in experiments/."
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}.") from error
    classes: dict[str, type] = {"train": TrainConfig, "augment": AugmentConfig, "tune": TuneConfig}
    for name, table in tables.items():
        if name not in classes or not isinstance(table, dict):
            raise ConfigError(
                f"{path}: unknown table or key {name!r}; it may hold [train], [augment] and [tune]."
                f"{closest(name, classes)}"
            )
    for override in overrides:
        key, value = parse_override(override)
        owner, key = key.split(".", 1) if "." in key else (_owner(key, classes, override), key)
        if owner not in classes:
            raise ConfigError(f"--set {override}: unknown table {owner!r}; choose one of {', '.join(classes)}.")
        tables.setdefault(owner, {})[key] = value
    built: dict[str, Any] = {
        name: build(cls, tables.get(name, {}), where=f"{path} [{name}]") for name, cls in classes.items()
    }
    return Experiment(path.stem, **built)


def _owner(key: str, classes: Mapping[str, type], override: str) -> str:
    names = {field.name: table for table, cls in classes.items() for field in dataclasses.fields(cls)}
    if key not in names:
        raise ConfigError(f"--set {override}: unknown key {key!r}.{closest(key, names)}")
    return names[key]


def parse_override(override: str) -> tuple[str, Any]:
    """Split `key=value` and read the value as TOML does; a value that is no TOML is a plain word.

    Raises:
        ConfigError: If there is no `=`.
    """
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"--set {override}: expected key=value.")
    try:
        return key.strip(), tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), text.strip()


def build(cls: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """Build a configuration from plain values, checked against its types.

    Args:
        cls: The dataclass.
        values: Its fields, as TOML or JSON gives them.
        where: What to name in an error.

    Raises:
        ConfigError: If a key is unknown, a type is wrong or a value out of range.
    """
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            raise ConfigError(f"{where}: unknown key {key!r}.{closest(key, names)} It may hold: {', '.join(names)}.")
    try:
        return pydantic.TypeAdapter(cls).validate_python(dict(values))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"{where}: {key + ': ' if key else ''}{message}" + (f" Received: {first['input']!r}." if key else "")
        ) from error


def to_json(experiment: Experiment) -> str:
    """Write as JSON what a training rests on, every value resolved: the experiment without its table `[tune]`."""
    tables = dataclasses.asdict(experiment)
    del tables["tune"]
    return json.dumps(tables, indent=2) + "\n"
