"""`boneage` whose backbone is one convolution, for tests of a search that need processes of their own.

Each trial takes half a second longer, so that no worker is through with all before another has begun, and is told on
standard error when it begins.
"""

import sys
import time

import keras

import boneage.models.build
from boneage.cli.main import main
from boneage.tuning.trials import Search


def tiny_tower(name, *, input_size) -> keras.Model:
    image = keras.Input((input_size, input_size, 1), name="image")
    features = keras.layers.Conv2D(6, 5, strides=4, activation="relu", name="conv")(image)
    return keras.Model(image, features, name=name)


def tell_and_rest(run):
    def told(self, train):
        sys.stderr.write("begins a trial\n")
        time.sleep(0.5)
        return run(self, train)

    return told


if __name__ == "__main__":
    boneage.models.build._build_backbone = tiny_tower
    Search._run_config = tell_and_rest(Search._run_config)
    main()
