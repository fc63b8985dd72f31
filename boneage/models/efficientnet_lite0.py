"""EfficientNet-Lite0: EfficientNet with only convolutions, batch normalisation and ReLU6.

Architecture and hyperparameters follow `efficientnet/lite/efficientnet_lite_builder.py` of
https://github.com/tensorflow/tpu (Apache-2.0); the block design is MBConv of Tan and Le 2019, arXiv:1905.11946.
"""

from typing import NamedTuple

import keras

STEM_FILTERS = 32
HEAD_FILTERS = 1280


class Stage(NamedTuple):
    """Blocks with the same number of filters; only the first has the stride."""

    num_blocks: int
    kernel_size: int
    stride: int
    expansion: int
    filters: int


STAGES = (
    Stage(num_blocks=1, kernel_size=3, stride=1, expansion=1, filters=16),
    Stage(num_blocks=2, kernel_size=3, stride=2, expansion=6, filters=24),
    Stage(num_blocks=2, kernel_size=5, stride=2, expansion=6, filters=40),
    Stage(num_blocks=3, kernel_size=3, stride=2, expansion=6, filters=80),
    Stage(num_blocks=3, kernel_size=5, stride=1, expansion=6, filters=112),
    Stage(num_blocks=4, kernel_size=5, stride=2, expansion=6, filters=192),
    Stage(num_blocks=1, kernel_size=3, stride=1, expansion=6, filters=320),
)


def efficientnet_lite0(x: keras.KerasTensor) -> keras.KerasTensor:
    """Apply a randomly initialised EfficientNet-Lite0 without its classifier.

    Without the stochastic depth of the original training on ImageNet.

    Args:
        x: Colour images in [-1, 1], shape `(batch, height, width, 3)`.

    Returns:
        Feature map, shape `(batch, ceil(height / 32), ceil(width / 32), 1280)`, in [0, 6].
    """
    x = _convolve(x, STEM_FILTERS, name="stem", kernel_size=3, stride=2)
    for number, stage in enumerate(STAGES, start=1):
        for index in range(stage.num_blocks):
            x = _block(x, stage, stride=stage.stride if index == 0 else 1, name=f"block{number}{'abcd'[index]}")
    return _convolve(x, HEAD_FILTERS, name="top")


def _block(x: keras.KerasTensor, stage: Stage, *, stride: int, name: str) -> keras.KerasTensor:
    """Inverted residual block: 1x1 expansion, depthwise convolution, 1x1 projection, and the input if shapes match."""
    inputs, input_filters = x, x.shape[-1]
    if stage.expansion != 1:
        x = _convolve(x, input_filters * stage.expansion, name=f"{name}_expand")
    x = keras.layers.DepthwiseConv2D(
        stage.kernel_size,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=_initializer(),
        name=f"{name}_depthwise_conv",
    )(x)
    x = _normalize(x, name=f"{name}_depthwise")
    x = keras.layers.ReLU(max_value=6.0, name=f"{name}_depthwise_relu6")(x)
    x = _convolve(x, stage.filters, name=f"{name}_project", activate=False)
    if stride == 1 and input_filters == stage.filters:
        x = keras.layers.Add(name=f"{name}_add")([x, inputs])
    return x


def _convolve(
    x: keras.KerasTensor, filters: int, *, name: str, kernel_size: int = 1, stride: int = 1, activate: bool = True
) -> keras.KerasTensor:
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=_initializer(),
        name=f"{name}_conv",
    )(x)
    x = _normalize(x, name=name)
    return keras.layers.ReLU(max_value=6.0, name=f"{name}_relu6")(x) if activate else x


def _normalize(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_norm")(x)


def _initializer() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(scale=2.0, mode="fan_out", distribution="truncated_normal")
