"""Search for the best head with KerasTuner."""

from boneage.tfrecords.quiet import import_tensorflow

import_tensorflow()
