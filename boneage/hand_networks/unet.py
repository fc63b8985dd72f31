"""The U-Net for hand segmentation: training on a few dozen masks, and evaluation."""

from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from boneage.configuration.hand_networks import HandTrainingConfig
from boneage.hand_networks.network import Batch, build_unet, train_hand_network
from boneage.preprocessing.segmentation.unet import UNET_SIZE_PX, segment_with_unet
from boneage.preprocessing.training_data.mask_augmentation import augment_pair
from boneage.preprocessing.training_data.mask_pairs import MaskPair, score_mask

WIDTHS = (24, 48, 96, 160, 192)


def cross_entropy_dice_loss(truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Loss of each image: mean binary cross-entropy plus one minus soft Dice.

    Soft Dice follows Milletari et al. 2016, doi:10.1109/3DV.2016.79.

    Args:
        truth: Fraction of hand in each pixel, shape `(batch, height, width, 1)`, float32.
        logits: Same shape, float32.

    Returns:
        Shape `(batch,)`, float32.
    """
    entropy = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(truth, logits), axis=(1, 2, 3))
    share = tf.sigmoid(logits)
    overlap = tf.reduce_sum(share * truth, axis=(1, 2, 3))
    area = tf.reduce_sum(share**2 + truth**2, axis=(1, 2, 3))
    return entropy + 1 - (2 * overlap + 1) / (area + 1)


def fit_unet(pairs: Sequence[MaskPair], *, config: HandTrainingConfig) -> keras.Model:
    """Train the U-Net on augmented radiographs with masks.

    Args:
        pairs: Radiographs with masks to train on.
        config: The training settings.

    Returns:
        The network from `(batch, 256, 256, 1)`, float32 in [0, 1], to logits of the same shape.
    """

    def sample_batch(rng: np.random.Generator) -> Batch:
        chosen = rng.integers(len(pairs), size=config.batch_size)
        samples = [augment_pair(pairs[index], size_px=UNET_SIZE_PX, rng=rng) for index in chosen]
        images = np.stack([pixels for pixels, _ in samples])[..., None].astype(np.float32) / 255
        return images, np.stack([mask for _, mask in samples])[..., None]

    def build() -> keras.Model:
        return build_unet(size_px=UNET_SIZE_PX, widths=WIDTHS, num_maps=1, stride=1, name="unet")

    return train_hand_network(build, sample_batch=sample_batch, loss=cross_entropy_dice_loss, config=config)


def evaluate_unet(model: keras.Model, pairs: Sequence[MaskPair]) -> pd.DataFrame:
    """Evaluate a U-Net, including the postprocessing of the mask, on radiographs that it was not trained on.

    Args:
        model: The network.
        pairs: Radiographs with reference masks.

    Returns:
        One row per radiograph: `file` and the metrics of `boneage.preprocessing.training_data.mask_pairs.score_mask`.
    """

    def forward(image: np.ndarray) -> np.ndarray:
        return np.asarray(model(image, training=False))

    found = [segment_with_unet(forward, pair.pixels).mask for pair in pairs]
    return pd.DataFrame(
        [{"file": pair.name, **score_mask(mask, truth=pair.mask)} for pair, mask in zip(pairs, found, strict=True)]
    )
