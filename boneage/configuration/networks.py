"""The supported networks: scaling of their input, and the source of their ImageNet weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from boneage.base.errors import check_choice, suggest_closest

TASKS = ("age", "sex")

SEX_UNITS = 32  # as in 16Bit's network (Halabi et al. 2019, doi:10.1148/radiol.2018180736)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Application:
    """A network of `keras.applications`.

    Args:
        constructor: Name of the function in `keras.applications`.
        weights_url: URL of the ImageNet weights without classifier, the same as in `keras.applications` 3.15; empty to
            leave the download to the function.
        weights_md5: MD5 of that file.
    """

    constructor: str
    weights_url: str = ""
    weights_md5: str = ""


@dataclass(frozen=True)
class Network:
    """A network that `build_model` can build.

    Args:
        scale: Factor from image values in [0, 1] to the input range of the pretrained network, one for all three
            channels or one per channel.
        offset: Added after scaling, one for all three channels or one per channel.
        min_input_size: Smallest supported height and width of the image, in pixels.
        head_units: Units of the hidden dense layers between features and bone age.
        application: Source of the network; None if it is defined in boneage and its weights are packaged.
        function: The function of a network of `register_backbone`.
    """

    scale: float | tuple[float, ...]
    offset: float | tuple[float, ...]
    min_input_size: int = 32
    head_units: tuple[int, ...] = (256,)
    application: Application | None = None
    function: Callable[[Any], Any] | None = None


NETWORKS = {
    # Values in about [-1, 1]: mean 127 and standard deviation 128 of 255, as in Google's efficientnet_lite_builder.py.
    "efficientnet_lite0": Network(scale=255 / 128, offset=-127 / 128),
    # Keras's EfficientNet divides by 255, subtracts the mean and, with the ImageNet file, divides by the square root
    # of the standard deviation instead of by the standard deviation (tensorflow/tensorflow issue 49930). Scale and
    # offset correct this: they solve (x / 255 - mean) / sqrt(std) = (image - mean) / std for x.
    "efficientnetb4": Network(
        scale=tuple(255 / std**0.5 for std in IMAGENET_STD),
        offset=tuple(255 * mean * (1 - 1 / std**0.5) for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)),
        application=Application(
            constructor="EfficientNetB4",
            weights_url="https://storage.googleapis.com/keras-applications/efficientnetb4_notop.h5",
            weights_md5="ebc24e6d6c33eaebbd558eafbeedf1ba",
        ),
    ),
    # Values in [-1, 1]. The head is that of 16Bit's network, which won the 2017 challenge (Halabi et al. 2019,
    # doi:10.1148/radiol.2018180736).
    "inceptionv3": Network(
        scale=2.0,
        offset=-1.0,
        min_input_size=75,
        head_units=(1000, 1000),
        application=Application(
            constructor="InceptionV3",
            weights_url="https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/"
            "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
            weights_md5="bcbd6486424b2319ff4ef7d526e38f63",
        ),
    ),
    # Values in [0, 255] minus the ImageNet mean of each channel, in the order blue, green, red.
    "resnet50": Network(
        scale=255.0,
        offset=(-103.939, -116.779, -123.68),
        application=Application(
            constructor="ResNet50",
            weights_url="https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
            "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            weights_md5="4d473c1dd8becc155b73f8504c6f6626",
        ),
    ),
}

KERAS_PREFIX = "keras:"

_BY_MEAN_AND_STD: dict[str, Any] = {
    "scale": tuple(1 / std for std in IMAGENET_STD),
    "offset": tuple(-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)),
}
_BY_MEAN: dict[str, Any] = {"scale": NETWORKS["resnet50"].scale, "offset": NETWORKS["resnet50"].offset}
_TO_ONE: dict[str, Any] = {"scale": 2.0, "offset": -1.0}
_BY_128: dict[str, Any] = {"scale": 255 / 128, "offset": -1.0}
_AS_B4: dict[str, Any] = {"scale": NETWORKS["efficientnetb4"].scale, "offset": NETWORKS["efficientnetb4"].offset}

# The values that each model was trained on, as its `preprocess_input` or its own first layers compute them in
# `keras.applications` 3.15, and the smallest input that it accepts without its classifier.
_APPLICATIONS: dict[str, dict[str, Any]] = {
    **{f"ConvNeXt{size}": _BY_MEAN_AND_STD for size in ("Tiny", "Small", "Base", "Large", "XLarge")},
    **{f"DenseNet{depth}": _BY_MEAN_AND_STD for depth in (121, 169, 201)},
    **{f"EfficientNetB{size}": _AS_B4 for size in range(8)},
    **{f"EfficientNetV2B{size}": _BY_MEAN_AND_STD for size in range(4)},
    **{f"EfficientNetV2{size}": _BY_128 for size in ("S", "M", "L")},
    "InceptionResNetV2": {**_TO_ONE, "min_input_size": 75},
    "InceptionV3": {**_TO_ONE, "min_input_size": 75},
    "MobileNet": _TO_ONE,
    "MobileNetV2": _TO_ONE,
    "MobileNetV3Small": _TO_ONE,
    "MobileNetV3Large": _TO_ONE,
    "NASNetMobile": _TO_ONE,
    "NASNetLarge": _TO_ONE,
    **{f"ResNet{depth}": _BY_MEAN for depth in (50, 101, 152)},
    **{f"ResNet{depth}V2": _TO_ONE for depth in (50, 101, 152)},
    "VGG16": _BY_MEAN,
    "VGG19": _BY_MEAN,
    "Xception": {**_TO_ONE, "min_input_size": 71},
}
KERAS_NETWORKS = {
    f"{KERAS_PREFIX}{name}": Network(**values, application=Application(name)) for name, values in _APPLICATIONS.items()
}
"""The models of `keras.applications`."""

_registered: dict[str, Network] = {}


def register_backbone(
    name: str,
    function: Callable[[Any], Any],
    *,
    scale: float | tuple[float, ...] = 1.0,
    offset: float | tuple[float, ...] = 0.0,
    min_input_size: int = 32,
    head_units: tuple[int, ...] = (256,),
) -> None:
    """Make a backbone of your own known to this process, by the name that the setting `network` then takes.

    Nothing is ever imported by a name that a bundle or a recipe contains: a script that trains the network, or trains
    it further, registers it first. Predictions need no registration, they use the bundle's ONNX file. Before the
    training starts, the export of the network is checked.

    Args:
        name: A name of letters, digits and underscores. A name that is registered again gets the new function.
        function: From a Keras tensor of colour images, float32 `(batch, size, size, 3)`, to a feature map
            `(batch, height, width, channels)`, by layers of Keras that can be serialised. It may load weights of its
            own, which `init = "none"` leaves as they are.
        scale: Factor from image values in [0, 1] to those that the function expects, one or one per channel.
        offset: Added after scaling, one or one per channel.
        min_input_size: Smallest supported height and width of the image, in pixels.
        head_units: Units of the hidden dense layers between features and bone age, where `head_units` is empty.

    Raises:
        ValueError: If the name is not allowed, or belongs to one of the package's networks.

    Example:
        >>> def tiny(image):
        ...     return keras.layers.Conv2D(8, 3, strides=4, activation="relu", name="conv")(image)
        >>> boneage.register_backbone("tiny", tiny, scale=2.0, offset=-1.0)
        >>> boneage.train("rsna_lite0", data="records", overrides=["network=tiny", "init=none"])
    """
    if not name.isidentifier() or name in NETWORKS or network_of_layer(name) in KERAS_NETWORKS:
        raise ValueError(
            f"`name` must consist of letters, digits and underscores, and not be one of {', '.join(NETWORKS)}. "
            f"Received: {name!r}."
        )
    _registered[name] = Network(scale, offset, min_input_size, head_units, function=function)


def get_network(name: str, *, argument: str = "network") -> Network:
    """Return a network by its name.

    Args:
        name: A key of `NETWORKS` or `KERAS_NETWORKS`, or a name that was given to `register_backbone`.
        argument: Name of the argument or setting, for the error message.

    Raises:
        ValueError: If there is no such network.
    """
    known = {**NETWORKS, **_registered, **KERAS_NETWORKS}
    if name in known:
        return known[name]
    if name.startswith(KERAS_PREFIX):
        check_choice(argument, name, tuple(KERAS_NETWORKS))
    raise ValueError(
        f"`{argument}` must be one of {', '.join((*NETWORKS, *_registered))}, a model of keras.applications such as "
        f"keras:ConvNeXtTiny, or the name of a backbone given to boneage.register_backbone. Received: {name!r}."
        f"{suggest_closest(name, known)}"
    )


def layer_of_network(name: str) -> str:
    """Return the name of the backbone's layer in a network: Keras allows no colon."""
    return name.replace(KERAS_PREFIX, "keras_", 1)


def network_of_layer(layer: str) -> str:
    """Return the name of the network whose backbone is the layer of this name."""
    name = layer.replace("keras_", KERAS_PREFIX, 1)
    return name if name in KERAS_NETWORKS else layer
