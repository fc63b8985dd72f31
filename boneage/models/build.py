"""Build a network: an image tower, the sex beside it, a dense head that answers in months or tells the sex."""

from collections.abc import Sequence
from pathlib import Path

import keras

from boneage.bundle import DEFAULT_BUNDLE
from boneage.config import ACTIVATIONS, POOLINGS, SEX_JOINS, TrainConfig
from boneage.models.efficientnet_lite0 import efficientnet_lite0
from boneage.models.head import add_hidden_layers, pool, tell_months
from boneage.models.networks import NETWORKS, SEX_UNITS, TASKS
from boneage.models.pretrained import WEIGHTS_SUFFIXES, load_imagenet_weights, load_weights_file, take_over_bundle
from tfrecords.errors import check_choice


def build_model(
    name: str,
    *,
    input_size: int,
    init: str | Path = "imagenet",
    task: str = "age",
    use_sex: bool = True,
    head_units: Sequence[int] | None = None,
    dropout: float = 0.0,
    pooling: str = "average",
    activation: str = "relu",
    sex_units: int = SEX_UNITS,
    sex_joins: str = "before",
    target_mean_months: float = 0.0,
    target_std_months: float = 1.0,
) -> keras.Model:
    """Build a network from a grey image and the sex to the bone age in months.

    The head predicts the standardised bone age; the last layer turns it into months with the mean and standard
    deviation given here, so that labels, losses and predictions are all in months.

    The tower is a model inside the model, named like the network, from the image to a feature map; all around it is the
    head. The feature map itself is `model.get_layer("pool").input`.

    Args:
        name: A key of `boneage.models.NETWORKS`: `"efficientnet_lite0"`, `"efficientnetb4"`, `"inceptionv3"` or
            `"resnet50"`.
        input_size: Height and width of the image, in pixels.
        init: `"imagenet"` fills the tower with ImageNet weights, which ship with boneage for `"efficientnet_lite0"` and
            are downloaded once for the others; `"none"` leaves it random; a path to a `.weights.h5` or `.keras` file of
            the same network fills the whole model; the folder of a bundle of the same network, or `"default"` for the
            one in the package, fills the tower, and, if its layers are alike, the head, which then keeps the bundle's
            target mean and standard deviation. No code in the file or the bundle is run.
        task: `"age"`, or `"sex"` for a network that tells the probability of a boy, to which the two last arguments
            mean nothing.
        use_sex: Whether the sex is an input.
        head_units: Widths of the hidden dense layers, for example `(256,)`. None takes the network's own.
        dropout: Share in [0, 1) of the features dropped before the head while training.
        pooling: What the head takes of the feature map: its `"average"`, its `"max"`, or `"both"` side by side.
        activation: Activation of the hidden layers: `"relu"`, `"gelu"` or `"swish"`.
        sex_units: Width of the dense layer on the sex.
        sex_joins: Where that layer joins the features: `"before"` or `"after"` the hidden layers.
        target_mean_months: Mean bone age of the training split, in months.
        target_std_months: Its standard deviation, in months. Must be positive.

    Returns:
        A functional model, not compiled. It follows `keras.mixed_precision`; its output is float32 in any case.

    Input shape:
        A dictionary of `"image"`, float32 `(batch, input_size, input_size, 1)` in [0, 1], bright bone, and, with
        `use_sex`, `"male"`, float32 `(batch, 1)`, 1 for male and 0 for female.

    Output shape:
        Bone age in months, `"bone_age_months"`, or the probability of a boy, `"male_share"`, float32 `(batch, 1)`.

    Raises:
        ValueError: If an argument is out of range, or a weights file or bundle is of another network.
        WeightsUnavailable: If the weights file is missing or cannot be downloaded.
        BundleError: If the bundle is missing, damaged or changed.

    Example:
        >>> model = build_model("efficientnet_lite0", input_size=128, target_mean_months=127, target_std_months=41)
        >>> model({"image": np.zeros((1, 128, 128, 1)), "male": np.ones((1, 1))}).shape
        TensorShape([1, 1])
    """
    check_choice("name", name, tuple(NETWORKS))
    check_choice("task", task, TASKS)
    check_choice("pooling", pooling, POOLINGS)
    check_choice("activation", activation, ACTIVATIONS)
    check_choice("sex_joins", sex_joins, SEX_JOINS)
    _check_init(init)
    network = NETWORKS[name]
    if input_size < network.min_input_size:
        raise ValueError(
            f"`input_size` must be at least {network.min_input_size} for {name}. Received: input_size={input_size}."
        )
    if target_std_months <= 0:
        raise ValueError(f"`target_std_months` must be positive. Received: target_std_months={target_std_months}.")

    tower = _build_tower(name, input_size=input_size)
    image = keras.Input((input_size, input_size, 1), name="image", dtype="float32")
    inputs = {"image": image}
    pooled = pool(tower(image), pooling)
    if use_sex:
        inputs["male"] = keras.Input((1,), name="male", dtype="float32")
    x = add_hidden_layers(
        pooled,
        inputs.get("male"),
        head_units=network.head_units if head_units is None else head_units,
        dropout=dropout,
        activation=activation,
        sex_units=sex_units,
        sex_joins=sex_joins,
    )
    if task == "sex":
        x = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name="male_share")(x)
    else:
        x = tell_months(x, mean_months=target_mean_months, std_months=target_std_months)
    model = keras.Model(inputs, x, name=f"{'sex' if task == 'sex' else 'bone_age'}_{name}")
    if init == "imagenet":
        load_imagenet_weights(tower)
    elif str(init).endswith(WEIGHTS_SUFFIXES):
        load_weights_file(model, path=Path(init))
    elif init != "none":
        take_over_bundle(model, tower=name, folder=DEFAULT_BUNDLE if init == "default" else Path(init))
    return model


def build_network(
    config: TrainConfig, *, init: str | Path, target_mean_months: float = 0.0, target_std_months: float = 1.0
) -> keras.Model:
    """Build the network that an experiment describes, see `build_model`.

    Args:
        config: The experiment's table `[train]`.
        init: What to begin from; mostly `config.init`.
        target_mean_months: Mean bone age of the training split, in months.
        target_std_months: Its standard deviation, in months.
    """
    return build_model(
        config.network,
        input_size=config.input_size,
        init=init,
        task=config.task,
        use_sex=config.use_sex,
        head_units=config.hidden_units,
        dropout=config.dropout,
        pooling=config.pooling,
        activation=config.activation,
        sex_units=config.sex_units,
        sex_joins=config.sex_joins,
        target_mean_months=target_mean_months,
        target_std_months=target_std_months,
    )


def _build_tower(name: str, *, input_size: int) -> keras.Model:
    """Build the random network from a grey image in [0, 1] to its feature map."""
    network = NETWORKS[name]
    image = keras.Input((input_size, input_size, 1), name="image", dtype="float32")
    # float32 also under mixed precision, where 8 bits of mantissa would round the grey values.
    x = keras.layers.Concatenate(dtype="float32", name="grey_to_rgb")([image, image, image])
    x = keras.layers.Rescaling(network.scale, network.offset, dtype="float32", name="rescale")(x)
    if network.application is None:
        features = efficientnet_lite0(x)
    else:
        constructor = getattr(keras.applications, network.application.constructor)
        features = constructor(include_top=False, weights=None, input_tensor=x).output
    return keras.Model(image, features, name=name)


def _check_init(init: str | Path) -> None:
    known = init in ("imagenet", "none", "default") or str(init).endswith(WEIGHTS_SUFFIXES)
    if not known and not Path(init).is_dir():
        raise ValueError(
            f"`init` must be 'imagenet', 'none', 'default', the folder of a bundle, or a path that ends in "
            f"{' or '.join(WEIGHTS_SUFFIXES)}. Received: init={str(init)!r}."
        )
