"""Networks that predict bone age from a radiograph and the sex."""

from boneage.tfrecords.quiet import import_tensorflow

import_tensorflow()
