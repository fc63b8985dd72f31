"""The supported networks: scaling of their input, and the source of their ImageNet weights."""

from dataclasses import dataclass

TASKS = ("age", "sex")

SEX_UNITS = 32  # as in 16Bit's network (Halabi et al. 2019, doi:10.1148/radiol.2018180736)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Application:
    """A network of `keras.applications`.

    Args:
        constructor: Name of the function in `keras.applications`.
        weights_url: URL of the ImageNet weights without classifier, the same as in `keras.applications` 3.15.
        weights_md5: MD5 of that file.
    """

    constructor: str
    weights_url: str
    weights_md5: str


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
    """

    scale: float | tuple[float, ...]
    offset: float | tuple[float, ...]
    min_input_size: int = 32
    head_units: tuple[int, ...] = (256,)
    application: Application | None = None


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
