"""The hand landmark network (wrist and finger joints): training on radiographs and drawings, and evaluation."""

from collections.abc import Sequence

import cv2
import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from boneage.configuration.hand_networks import HandTrainingConfig
from boneage.hand_networks.network import Batch, build_unet, train_hand_network
from boneage.preprocessing.hand.landmarks import HEATMAP_SIZE_PX, LANDMARKS_SIZE_PX, MARGIN_SHARE, locate_landmarks
from boneage.preprocessing.hand.pose import NUM_LANDMARKS, WRIST, find_pose, turn_between
from boneage.preprocessing.training_data.landmark_examples import LandmarkExample, augment_example

WIDTHS = (32, 48, 96, 128, 192)
_SIGMA_CELLS = 1.0
_ROTATIONS_DEGREES = range(0, 360, 30)


def coordinate_and_heatmap_loss(truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Loss of each image: distance of the mean position, and cross-entropy of each map with a narrow peak.

    The mean position follows integral regression (Sun et al. 2018, arXiv:1711.08229). Landmarks outside the square
    are ignored.

    Args:
        truth: Shape `(batch, points, 2)`, float32, `(x, y)` as fractions of the square's side.
        logits: Shape `(batch, cells, cells, points)`, float32.

    Returns:
        Shape `(batch,)`, float32: mean absolute distance in cells plus cross-entropy with a Gaussian peak.
    """
    cells = HEATMAP_SIZE_PX
    centres = (tf.range(cells, dtype=tf.float32) + 0.5) / cells
    inside = tf.cast(tf.reduce_all((truth > 0) & (truth < 1), axis=-1), tf.float32)
    flat = tf.reshape(logits, (-1, cells * cells, NUM_LANDMARKS))
    weight = tf.reshape(tf.nn.softmax(flat, axis=1), (-1, cells, cells, NUM_LANDMARKS))
    x = tf.einsum("brcp,c->bp", weight, centres)
    y = tf.einsum("brcp,r->bp", weight, centres)
    off = tf.reduce_sum(tf.abs(tf.stack([x, y], axis=-1) - truth), axis=-1) * cells
    steps = (centres[None, :, None, None] - truth[:, None]) * cells / _SIGMA_CELLS
    along = tf.exp(-0.5 * steps**2)
    peak = tf.einsum("brp,bcp->brcp", along[..., 1], along[..., 0])
    peak = tf.reshape(peak / (tf.reduce_sum(peak, axis=(1, 2), keepdims=True) + 1e-6), tf.shape(flat))
    unlike = -tf.reduce_sum(peak * tf.nn.log_softmax(flat, axis=1), axis=1)
    return tf.reduce_sum((off + unlike) * inside, axis=-1) / (tf.reduce_sum(inside, axis=-1) + 1e-6)


def fit_landmarks(
    real: Sequence[LandmarkExample], *, drawn: Sequence[LandmarkExample], config: HandTrainingConfig
) -> keras.Model:
    """Train the landmark network on three parts radiographs and one part drawings.

    Args:
        real: Radiographs with landmarks.
        drawn: Drawings with landmarks.
        config: The training settings.

    Returns:
        The network from `(batch, 128, 128, 1)`, float32 in [0, 1], to logits `(batch, 32, 32, 21)`.
    """

    def sample_batch(rng: np.random.Generator) -> Batch:
        samples = []
        for _ in range(config.batch_size):
            pool = drawn if rng.random() < 0.25 else real
            samples.append(augment_example(pool[int(rng.integers(len(pool)))], rng=rng))
        images = np.stack([pixels for pixels, _ in samples])[..., None].astype(np.float32) / 255
        return images, np.stack([points for _, points in samples])

    def build() -> keras.Model:
        return build_unet(
            size_px=LANDMARKS_SIZE_PX,
            widths=WIDTHS,
            num_maps=NUM_LANDMARKS,
            stride=LANDMARKS_SIZE_PX // HEATMAP_SIZE_PX,
            name="landmarks",
        )

    return train_hand_network(build, sample_batch=sample_batch, loss=coordinate_and_heatmap_loss, config=config)


def evaluate_landmarks(model: keras.Model, examples: Sequence[LandmarkExample], *, seed: int) -> pd.DataFrame:
    """Evaluate the network on radiographs that it was not trained on, each rotated in steps of 30 degrees and mirrored.

    The box of the hand is computed from the reference landmarks and a random length of forearm instead of a mask.

    Args:
        model: The network.
        examples: Radiographs with reference landmarks.
        seed: Seed of the lengths of forearm.

    Returns:
        One row per rotation and mirroring: `id`, `turn_degrees`, `mirrored`, `angle_error_degrees` (absolute),
        `side_right` (bool), `side_margin`, and `landmark_error` and `wrist_error`, distances as fractions of the hand's
        length.
    """

    def forward(image: np.ndarray) -> np.ndarray:
        return np.asarray(model(image, training=False))

    rng = np.random.default_rng(seed)
    rows = []
    for example in examples:
        for turn in _ROTATIONS_DEGREES:
            for mirrored in (False, True):
                pixels, points = _turn(example, degrees=turn, mirrored=mirrored)
                found = locate_landmarks(forward, pixels, _box_mask(pixels.shape, points, rng=rng)).points
                pose, true = find_pose(found), find_pose(points)
                off = np.linalg.norm(found - points, axis=1) / true.length_px
                rows.append(
                    {
                        "id": example.id,
                        "turn_degrees": turn,
                        "mirrored": mirrored,
                        "angle_error_degrees": abs(turn_between(pose.angle_degrees, true.angle_degrees)),
                        "side_right": pose.side == true.side,
                        "side_margin": pose.side_margin,
                        "landmark_error": off.mean(),
                        "wrist_error": off[WRIST],
                    }
                )
    return pd.DataFrame(rows)


def _turn(example: LandmarkExample, *, degrees: float, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rotate a radiograph with its landmarks counter-clockwise, on a square that holds all of it, then mirror them."""
    height, width = example.pixels.shape
    side = int(np.ceil(np.hypot(height, width)))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    matrix[:, 2] += [(side - width) / 2, (side - height) / 2]
    pixels = cv2.warpAffine(example.pixels, matrix, (side, side))
    points = example.landmarks @ matrix[:, :2].T + matrix[:, 2]
    if mirrored:
        pixels, points = np.ascontiguousarray(pixels[:, ::-1]), points * [-1, 1] + [side - 1, 0]
    return pixels, points


def _box_mask(shape: tuple[int, ...], points: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    forearm = points[WRIST] + (points[WRIST] - points[9]) * rng.uniform(0.1, 0.7)
    around = np.concatenate([points, [forearm]])
    margin = MARGIN_SHARE * np.ptp(around, axis=0).max()
    left, top = np.maximum(np.floor(around.min(axis=0) - margin), 0).astype(int)
    right, bottom = np.ceil(around.max(axis=0) + margin).astype(int)
    mask = np.zeros(shape, np.bool_)
    mask[top:bottom, left:right] = True
    return mask
