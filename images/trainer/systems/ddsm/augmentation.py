"""Other films of the same breasts: small shifts, turns and stretches, another exposure, grain.

Nothing is mirrored or cropped: the breast stays whole, against the left edge, its muscle in the upper corner.
"""

from __future__ import annotations

import math

import tensorflow as tf

from images.trainer.affine import Changes, changed

SHIFT = 4.0  # pixels down, each way
TURN = math.radians(6.0)
STRETCH = 0.1  # share, each way
EXPOSURE = 0.5  # Greys are raised to a power of 1 / (1 + this) to 1 + this, at most.
GRAIN = 4.0  # grey levels, standard deviation


def augment(images: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Changes each mammogram of a batch at random, always alike for the same seed.

    Args:
        images: uint8 [N, height, width], the breast against the left edge.
        seed: int32 or int64 [2].
        strength: from 0, which changes nothing, to 1.

    Returns:
        uint8 [N, height, width].
    """
    if strength == 0:
        return images
    seeds = tf.unstack(tf.random.split(seed, 2))
    draw = strength * tf.random.stateless_uniform([5, tf.shape(images)[0]], seeds[0], -1.0, 1.0)
    across, down = 1.0 + STRETCH * draw[1], 1.0 + STRETCH * draw[2]
    none = tf.zeros_like(across)
    # Stretched from the left edge, where the breast begins.
    edge = (across - 1.0) * (tf.cast(tf.shape(images)[2], tf.float32) - 1.0) / 2.0
    films = changed(tf.cast(images, tf.float32), Changes(TURN * draw[0], none, across, down, edge, SHIFT * draw[3]))
    power = tf.pow(1.0 + EXPOSURE, draw[4])[:, tf.newaxis, tf.newaxis]
    exposed = 255.0 * tf.pow(films / 255.0, power)
    grain = strength * tf.random.stateless_normal(tf.shape(exposed), seeds[1], stddev=GRAIN)
    # Film that was not exposed has no grain: padding stays black.
    return tf.saturate_cast(tf.round(tf.where(films > 0.0, exposed + grain, 0.0)), tf.uint8)
