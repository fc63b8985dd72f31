"""The U-Net that draws the hand's mask: learnt from a few dozen masks, measured on images it never saw."""

from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from boneage.hand.network import Batch, HandTraining, build_unet, train_hand_network
from preprocessing.looks import augment_pair
from preprocessing.mask_pairs import MaskPair, score_mask
from preprocessing.unet import UNET_SIZE_PX, segment_with

WIDTHS = (24, 48, 96, 160, 192)


def cross_entropy_and_dice(truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Loss of each image: mean binary cross-entropy plus one minus soft Dice.

    Soft Dice is that of Milletari et al. 2016, doi:10.1109/3DV.2016.79.

    Args:
        truth: How much of each pixel is hand, shape `(batch, height, width, 1)`, float32.
        logits: Same shape, float32.

    Returns:
        Shape `(batch,)`, float32.
    """
    entropy = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(truth, logits), axis=(1, 2, 3))
    share = tf.sigmoid(logits)
    overlap = tf.reduce_sum(share * truth, axis=(1, 2, 3))
    area = tf.reduce_sum(share**2 + truth**2, axis=(1, 2, 3))
    return entropy + 1 - (2 * overlap + 1) / (area + 1)


def fit_unet(pairs: Sequence[MaskPair], *, config: HandTraining) -> keras.Model:
    """Train the U-Net on radiographs with masks, however few, grown by augmentation.

    Args:
        pairs: What to learn from.
        config: How.

    Returns:
        From `(batch, 256, 256, 1)`, float32 in [0, 1], to logits of the same shape.
    """

    def draw(rng: np.random.Generator) -> Batch:
        chosen = rng.integers(len(pairs), size=config.batch_size)
        looks = [augment_pair(pairs[each], size_px=UNET_SIZE_PX, rng=rng) for each in chosen]
        images = np.stack([pixels for pixels, _ in looks])[..., None].astype(np.float32) / 255
        return images, np.stack([mask for _, mask in looks])[..., None]

    def build() -> keras.Model:
        return build_unet(size_px=UNET_SIZE_PX, widths=WIDTHS, num_maps=1, stride=1, name="unet")

    return train_hand_network(build, draw=draw, loss=cross_entropy_and_dice, config=config)


def measure_unet(model: keras.Model, pairs: Sequence[MaskPair]) -> pd.DataFrame:
    """Measure a U-Net, cleaning of the mask included, on radiographs that it was not trained on.

    Args:
        model: The network.
        pairs: Radiographs with true masks.

    Returns:
        One row a radiograph: `file` and the measures of `preprocessing.mask_pairs.score_mask`.
    """

    def forward(image: np.ndarray) -> np.ndarray:
        return model(image, training=False).numpy()

    found = [segment_with(forward, pair.pixels).mask for pair in pairs]
    return pd.DataFrame(
        [{"file": pair.name, **score_mask(mask, truth=pair.mask)} for pair, mask in zip(pairs, found, strict=True)]
    )
