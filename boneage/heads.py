"""Heads on the features of a frozen tower: what may be tried, how one is built, trained and judged."""

import dataclasses
from typing import Any

import keras
import keras_tuner
import numpy as np

from boneage.config import TrainConfig, TuneConfig
from boneage.features import Features
from boneage.loop import KERAS_LOSSES
from boneage.models.head import POOLED_BY, add_hidden_layers, tell_months
from boneage.models.networks import NETWORKS, SEX_UNITS
from boneage.optimizer import build_optimizer
from tfrecords.errors import BoneAgeError

# The first trials of every search, numbered from 1.
REFERENCES = ("16bit", "network")


class Diverged(BoneAgeError):
    """A head whose answers are no numbers any more."""


@dataclasses.dataclass(frozen=True)
class Head:
    """One head with how it is trained; see `boneage.config.TuneConfig` for the values.

    Args:
        head_units: Widths of the hidden layers.
        sex_units: Width of the layer on the sex.
        sex_joins: Where that layer joins.
        dropout: Share of the features that is dropped.
        activation: Of all hidden layers.
        pooling: What is taken of the feature map.
        loss: Loss, in months.
        optimizer: Optimizer.
        learning_rate: Highest learning rate.
        weight_decay: Decoupled weight decay of kernels.
        epochs: Passes over the training part.
    """

    head_units: tuple[int, ...]
    sex_units: int
    sex_joins: str
    dropout: float
    activation: str
    pooling: str
    loss: str
    optimizer: str
    learning_rate: float
    weight_decay: float
    epochs: int


def choose(hp: keras_tuner.HyperParameters, config: TuneConfig) -> Head:
    """Let the hyperparameters choose a head.

    Hyperband tells in `tuner/epochs` how long a trial may be; each begins anew, so that its learning rate can fall to
    zero.
    """
    num_layers, units = (_choose_one(hp, name, getattr(config, name)) for name in ("num_layers", "units"))
    return Head(
        head_units=(units,) * num_layers,
        sex_units=_choose_one(hp, "sex_units", config.sex_widths),
        sex_joins=_choose_one(hp, "sex_joins", config.sex_places),
        dropout=_choose_one(hp, "dropout", config.dropouts),
        activation=_choose_one(hp, "activation", config.activations),
        pooling=_choose_one(hp, "pooling", config.poolings),
        loss=_choose_one(hp, "loss", config.losses),
        optimizer=_choose_one(hp, "optimizer", config.optimizers),
        learning_rate=_choose_between(hp, "learning_rate", config.learning_rates),
        weight_decay=_choose_between(hp, "weight_decay", config.weight_decays),
        epochs=hp.values.get("tuner/epochs", config.trial_epochs),
    )


def _choose_one(hp: keras_tuner.HyperParameters, name: str, values: tuple[Any, ...]) -> Any:
    return hp.Choice(name, list(values)) if len(values) > 1 else hp.Fixed(name, values[0])


def _choose_between(hp: keras_tuner.HyperParameters, name: str, ends: tuple[float, float]) -> float:
    low, high = ends
    return hp.Float(name, low, high, sampling="log") if low < high else hp.Fixed(name, low)


def reference_heads(train: TrainConfig, tune: TuneConfig) -> dict[str, Head]:
    """Return what every search is measured against: 16Bit's head, and the network's own.

    Both are trained as the experiment's table `[train]` says, for as long as the longest trial.
    """
    own = Head(
        head_units=train.hidden_units,
        sex_units=train.sex_units,
        sex_joins=train.sex_joins,
        dropout=train.dropout,
        activation=train.activation,
        pooling=train.pooling,
        loss=train.loss,
        optimizer=train.optimizer,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        epochs=tune.trial_epochs,
    )
    theirs = dataclasses.replace(
        own,
        head_units=NETWORKS["inceptionv3"].head_units,
        sex_units=SEX_UNITS,
        sex_joins="before",
        activation="relu",
        pooling="average",
    )
    return dict(zip(REFERENCES, (theirs, own), strict=True))


def build_head(
    head: Head, *, num_channels: int, use_sex: bool, mean_months: float, std_months: float, steps: int
) -> keras.Model:
    """Build a head, compiled.

    Args:
        head: What to build.
        num_channels: Channels of the feature map.
        use_sex: Whether the sex is an input.
        mean_months: Mean bone age of what it learns from, in months.
        std_months: Its standard deviation, in months.
        steps: Number of batches that it will learn from.

    Returns:
        A model from `"average"`, `"max"`, or both, and `"male"`, to bone age in months.
    """
    inputs = {name: keras.Input((num_channels,), name=name) for name in POOLED_BY[head.pooling]}
    pooled = list(inputs.values())
    if use_sex:
        inputs["male"] = keras.Input((1,), name="male")
    x = add_hidden_layers(
        pooled,
        inputs.get("male"),
        head_units=head.head_units,
        dropout=head.dropout,
        activation=head.activation,
        sex_units=head.sex_units,
        sex_joins=head.sex_joins,
    )
    model = keras.Model(inputs, tell_months(x, mean_months=mean_months, std_months=std_months), name="head")
    optimizer = build_optimizer(
        head.learning_rate,
        optimizer=head.optimizer,
        steps=steps,
        warmup_steps=0,
        weight_decay=head.weight_decay,
    )
    model.compile(optimizer, KERAS_LOSSES[head.loss])
    return model


def train_head(
    head: Head,
    features: Features,
    *,
    rows: np.ndarray,
    use_sex: bool,
    batch_size: int,
    flip_share: float,
    seed: int,
) -> keras.Model:
    """Train a head on some radiographs.

    Args:
        head: What to train.
        features: What the tower saw.
        rows: Numbers of the radiographs to learn from.
        use_sex: Whether the sex is an input.
        batch_size: Radiographs in a batch.
        flip_share: Share of them seen in the mirror, in [0, 1].
        seed: Seed of first weights, order and dropout: alike for all heads, so that luck differs less.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    batches = _Batches(
        features,
        rows,
        names=(*POOLED_BY[head.pooling], *(("male",) if use_sex else ())),
        batch_size=min(batch_size, len(rows)),
        flip_share=flip_share,
        seed=seed,
    )
    ages = features.bone_age_months[rows]
    model = build_head(
        head,
        num_channels=features.average.shape[-1],
        use_sex=use_sex,
        mean_months=float(ages.mean()),
        std_months=float(ages.std()) or 1.0,
        steps=len(batches) * head.epochs,
    )
    model.fit(batches, epochs=head.epochs, shuffle=False, verbose=0, callbacks=[keras.callbacks.TerminateOnNaN()])
    return model


def predict_head(model: keras.Model, features: Features, *, rows: np.ndarray) -> np.ndarray:
    """Predict bone age in months from what the tower saw, unmirrored.

    Returns:
        Shape `(rows,)`, float32.

    Raises:
        Diverged: If an answer is no finite number.
    """
    inputs = _gather(features, rows, views=0, names=tuple(model.input))
    return check_finite(model.predict(inputs, batch_size=1024, verbose=0)[:, 0])


def check_finite(months: np.ndarray) -> np.ndarray:
    """Return answers in months as they are.

    Raises:
        Diverged: If one is no finite number.
    """
    if not np.isfinite(months).all():
        raise Diverged("diverged: the head answers no finite numbers.")
    return months


def _gather(
    features: Features, rows: np.ndarray, *, views: np.ndarray | int, names: tuple[str, ...]
) -> dict[str, np.ndarray]:
    gathered = {"average": features.average, "max": features.max}
    return {
        name: features.male[rows] if name == "male" else gathered[name][views, rows].astype(np.float32)
        for name in names
    }


class _Batches(keras.utils.PyDataset):
    """Batches of features in a new order each epoch, each radiograph seen straight or in the mirror."""

    def __init__(
        self,
        features: Features,
        rows: np.ndarray,
        *,
        names: tuple[str, ...],
        batch_size: int,
        flip_share: float,
        seed: int,
    ):
        super().__init__()
        self.features, self.rows, self.names = features, rows, names
        self.batch_size, self.flip_share = batch_size, flip_share
        self.generator = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self.rows) // self.batch_size

    def on_epoch_end(self) -> None:
        """Draw the order and the views of the next epoch."""
        self.order = self.generator.permutation(self.rows)
        self.views = (self.generator.random(len(self.rows)) < self.flip_share).astype(int)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        rows, views = self.order[part], self.views[part]
        return _gather(self.features, rows, views=views, names=self.names), self.features.bone_age_months[rows]
