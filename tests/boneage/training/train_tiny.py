"""`boneage` with a network that trains in a second, for tests that need processes of their own.

The first two arguments are the number of logical devices and the seconds of rest before each epoch.
"""

import sys
import time

import keras
import tensorflow as tf

import boneage.models.build
from boneage.cli.main import main
from boneage.training.run_folder import RunCallback


def tiny_model(name, *, input_size, target_mean_months, target_std_months, **_) -> keras.Model:
    layers = keras.layers
    image, male = keras.Input((input_size, input_size, 1), name="image"), keras.Input((1,), name="male")
    x = layers.Conv2D(8, 5, strides=4, use_bias=False, name="conv")(image)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    backbone = keras.Model(image, x, name=name)
    x = layers.Concatenate(name="join")([layers.GlobalAveragePooling2D(name="pool")(backbone(image)), male])
    x = layers.Dense(1, dtype="float32", name="standardized_bone_age")(x)
    months = layers.Rescaling(target_std_months, target_mean_months, dtype="float32", name="bone_age_months")(x)
    return keras.Model({"image": image, "male": male}, months, name=f"bone_age_{name}")


def rest_before_epochs(seconds: float) -> None:
    begin = RunCallback.on_epoch_begin

    def rested(self, epoch, logs=None):
        time.sleep(seconds)
        begin(self, epoch, logs)

    RunCallback.on_epoch_begin = rested


if __name__ == "__main__":
    num_devices, seconds = int(sys.argv.pop(1)), float(sys.argv.pop(1))
    if num_devices > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * num_devices)
    boneage.models.build.build_model = tiny_model
    rest_before_epochs(seconds)
    main()
