"""Other hands from the same words: small shifts, slants and stretches, paler ink, grain."""

from __future__ import annotations

import tensorflow as tf

SHIFT = (3.0, 2.0)  # pixels: along the line, across it
SLANT = 0.25  # columns per row
STRETCH = (0.12, 0.10)  # share: along the line, across it
INK = (0.7, 1.0)
GRAIN = 6.0  # grey levels, standard deviation


def augment(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Changes each image of a batch at random, always alike for the same seed.

    Args:
        images: uint8 [N, height, width], dark ink on white.
        seed: int32 or int64 [2].

    Returns:
        uint8 [N, height, width].
    """
    count, height, width = tf.unstack(tf.shape(images))
    seeds = tf.unstack(tf.random.split(seed, 3))
    draw = tf.random.stateless_uniform([6, count], seeds[0], -1.0, 1.0)
    x_scale, y_scale = 1.0 + STRETCH[0] * draw[0], 1.0 + STRETCH[1] * draw[1]
    slant = SLANT * draw[2]
    # Stretch from the left edge, where words begin; slant and stretch about the middle row. Output to input.
    middle = tf.cast(height, tf.float32) / 2.0
    x_shift = SHIFT[0] * draw[3] - slant * middle
    y_shift = SHIFT[1] * draw[4] + middle * (1.0 - y_scale)
    none = tf.zeros_like(slant)
    transforms = tf.stack([x_scale, slant, x_shift, none, y_scale, y_shift, none, none], axis=-1)
    pixels = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32)[..., tf.newaxis],
        transforms=transforms,
        output_shape=tf.stack([height, width]),
        fill_value=255.0,
        interpolation="BILINEAR",
    )[..., 0]
    ink = tf.random.stateless_uniform([count, 1, 1], seeds[1], *INK)
    grain = tf.random.stateless_normal(tf.shape(pixels), seeds[2], stddev=GRAIN)
    return tf.saturate_cast(tf.round(255.0 - ink * (255.0 - pixels) + grain), tf.uint8)
