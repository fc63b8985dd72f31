"""Build a network: image backbone, optional inputs of sex and age, and a dense head for bone age or sex."""

import inspect
from collections.abc import Sequence
from typing import Any

import keras

from boneage.base.errors import check_choice
from boneage.configuration.networks import SEX_UNITS, TASKS, Application, get_network, layer_of_network
from boneage.configuration.training import ACTIVATIONS, AGE_INPUTS, HEADS, POOLINGS, SEX_JOINS, TrainConfig
from boneage.models.efficientnet_lite0 import efficientnet_lite0
from boneage.models.exportable import make_exportable
from boneage.models.head import add_bone_age_output, add_distribution_output, add_hidden_layers, add_pooling


def build_model(
    name: str,
    *,
    input_size: int,
    task: str = "age",
    use_sex: bool = True,
    chronological_age: str = "none",
    head: str = "regression",
    head_units: Sequence[int] | None = None,
    dropout: float = 0.0,
    pooling: str = "average",
    activation: str = "relu",
    sex_units: int = SEX_UNITS,
    sex_joins: str = "before",
    target_mean_months: float = 0.0,
    target_std_months: float = 1.0,
) -> keras.Model:
    """Build a network that predicts bone age in months from a grey image, the sex and the chronological age.

    The head predicts the standardised bone age; the last layer rescales it to months with the given mean and standard
    deviation, so that labels, losses and predictions are all in months. The head `"distribution"` predicts the
    probability of each month instead; its last layer returns the expectation.

    The backbone is a nested model named by `layer_of_network`, from the image to a feature map; all other layers are
    the head. The feature map itself is `model.get_layer("pool").input`.

    Args:
        name: `"efficientnet_lite0"`, `"efficientnetb4"`, `"inceptionv3"` or `"resnet50"`, a model of
            `keras.applications` such as `"keras:ConvNeXtTiny"`, or a name given to `boneage.register_backbone`.
        input_size: Height and width of the image, in pixels.
        task: `"age"`, or `"sex"` for a network that predicts the probability that the child is male, for which the last
            two arguments and `head` have no effect.
        use_sex: Whether the sex is an input.
        chronological_age: `"none"`, `"input"`, or `"relative"`: the head predicts the difference of the bone age from
            it, of which the last two arguments then are mean and standard deviation.
        head: `"regression"` or `"distribution"`, for which the last two arguments have no effect.
        head_units: Units of the hidden dense layers, for example `(256,)` (default: those of the network).
        dropout: Dropout rate in [0, 1) before the head.
        pooling: Global pooling of the feature map: `"average"`, `"max"`, `"both"` concatenated, or `"gem"`, see
            `boneage.models.head.GeneralizedMeanPooling`.
        activation: Activation of the hidden layers: `"relu"`, `"gelu"` or `"swish"`.
        sex_units: Units of the dense layer on the sex.
        sex_joins: Where that layer is concatenated with the features: `"before"` or `"after"` the hidden layers.
        target_mean_months: Mean bone age of the training split, in months.
        target_std_months: Its standard deviation, in months. Must be positive.

    Returns:
        A functional model with random weights, not compiled; `boneage.training.initialise` loads pretrained weights.
        It uses the policy of `keras.mixed_precision`; its output is always float32.

    Input shape:
        A dictionary of `"image"`, float32 `(batch, input_size, input_size, 1)` in [0, 1], bright bone, and, with
        `use_sex`, `"male"`, float32 `(batch, 1)`, 1 for male and 0 for female. With a chronological age also those of
        `boneage.configuration.training.AGE_INPUTS`.

    Output shape:
        Bone age in months, `"bone_age_months"`, or `"male_probability"` in [0, 1], float32 `(batch, 1)`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> model = build_model("efficientnet_lite0", input_size=128, target_mean_months=127, target_std_months=41)
        >>> model({"image": np.zeros((1, 128, 128, 1)), "male": np.ones((1, 1))}).shape
        TensorShape([1, 1])
    """
    network = get_network(name, argument="name")
    check_choice("task", task, TASKS)
    check_choice("head", head, HEADS)
    check_choice("chronological_age", chronological_age, tuple(AGE_INPUTS))
    check_choice("pooling", pooling, POOLINGS)
    check_choice("activation", activation, ACTIVATIONS)
    check_choice("sex_joins", sex_joins, SEX_JOINS)
    if input_size < network.min_input_size:
        raise ValueError(
            f"`input_size` must be at least {network.min_input_size} for {name}. Received: input_size={input_size}."
        )
    if target_std_months <= 0:
        raise ValueError(f"`target_std_months` must be positive. Received: target_std_months={target_std_months}.")

    backbone = _build_backbone(name, input_size=input_size)
    image = keras.Input((input_size, input_size, 1), name="image", dtype="float32")
    inputs = {"image": image}
    pooled = add_pooling(backbone(image), pooling)
    for name_of_input in (*(["male"] if use_sex else []), *AGE_INPUTS[chronological_age]):
        inputs[name_of_input] = keras.Input((1,), name=name_of_input, dtype="float32")
    x = add_hidden_layers(
        pooled,
        inputs.get("male"),
        [inputs[name_of_input] for name_of_input in AGE_INPUTS[chronological_age]],
        head_units=network.head_units if head_units is None else head_units,
        dropout=dropout,
        activation=activation,
        sex_units=sex_units,
        sex_joins=sex_joins,
    )
    if task == "sex":
        x = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name="male_probability")(x)
    elif head == "distribution":
        x = add_distribution_output(x)
    else:
        age = inputs["chronological_age_months"] if chronological_age == "relative" else None
        x = add_bone_age_output(x, age, mean_months=target_mean_months, std_months=target_std_months)
    return keras.Model(inputs, x, name=f"{'sex' if task == 'sex' else 'bone_age'}_{layer_of_network(name)}")


def build_network(
    config: TrainConfig, *, target_mean_months: float = 0.0, target_std_months: float = 1.0
) -> keras.Model:
    """Build the network of an experiment, see `build_model`.

    Args:
        config: The experiment's table `[train]`.
        target_mean_months: Mean bone age of the training split, in months.
        target_std_months: Its standard deviation, in months.
    """
    return build_model(
        config.network,
        input_size=config.input_size,
        task=config.task,
        use_sex=config.use_sex,
        chronological_age=config.chronological_age,
        head=config.head,
        head_units=config.hidden_units,
        dropout=config.dropout,
        pooling=config.pooling,
        activation=config.activation,
        sex_units=config.sex_units,
        sex_joins=config.sex_joins,
        target_mean_months=target_mean_months,
        target_std_months=target_std_months,
    )


def _build_backbone(name: str, *, input_size: int) -> keras.Model:
    """Build the random network from a grey image in [0, 1] to its feature map."""
    network, layer = get_network(name), layer_of_network(name)
    image = keras.Input((input_size, input_size, 1), name="image", dtype="float32")
    # float32 also under mixed precision: bfloat16 would round the grey values to 8 bits.
    x = keras.layers.Concatenate(dtype="float32", name="grey_to_rgb")([image, image, image])
    x = keras.layers.Rescaling(network.scale, network.offset, dtype="float32", name="rescale")(x)
    if network.function is not None:
        features = network.function(x)
        if len(features.shape) != 4:
            raise ValueError(
                f"the function of the backbone {layer!r} must return a feature map (batch, height, width, channels). "
                f"Received: shape {tuple(features.shape)}."
            )
    elif network.application is None:
        features = efficientnet_lite0(x)
    else:
        features = build_application(network.application, weights=None, input_tensor=x).output
    return make_exportable(keras.Model(image, features, name=layer))


def build_application(application: Application, **arguments: Any) -> keras.Model:
    """Build a model of `keras.applications` without its classifier and, where it can be left out, its own rescaling.

    Args:
        application: The model.
        **arguments: Further arguments of its function.
    """
    constructor = getattr(keras.applications, application.constructor)
    if "include_preprocessing" in inspect.signature(constructor).parameters:
        arguments["include_preprocessing"] = False
    model: keras.Model = constructor(include_top=False, **arguments)
    return model
