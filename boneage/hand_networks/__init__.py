"""Networks that find the hand: trained here with Keras, exported to ONNX, used by `preprocessing` without Keras."""

from boneage.tfrecords.quiet import import_tensorflow

import_tensorflow()
