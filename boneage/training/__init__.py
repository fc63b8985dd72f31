"""Training: datasets, fit loop, schedule, distribution and the run folder."""

from boneage.tfrecords.quiet import import_tensorflow

import_tensorflow()
