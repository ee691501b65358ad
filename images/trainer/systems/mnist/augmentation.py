"""Other hands from the same digits: small shifts, turns, slants and stretches."""

from __future__ import annotations

import math

import tensorflow as tf

SHIFT = 3.0  # pixels, each way
TURN = math.radians(18.0)
SLANT = 0.3  # columns per row
STRETCH = 0.2  # share, each way


def augment(images: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Changes each digit of a batch at random, always alike for the same seed.

    Args:
        images: uint8 [N, height, width], light ink on dark.
        seed: int32 or int64 [2].
        strength: from 0, which changes nothing, to 1.

    Returns:
        uint8 [N, height, width].
    """
    if strength == 0:
        return images
    count, height, width = tf.unstack(tf.shape(images))
    draw = strength * tf.random.stateless_uniform([6, count], seed, -1.0, 1.0)
    turn, slant = TURN * draw[0], SLANT * draw[1]
    across, down = 1.0 + STRETCH * draw[2], 1.0 + STRETCH * draw[3]
    # Output to input, about the middle: stretch, then slant, then turn.
    a, b = across * tf.cos(turn), across * (slant * tf.cos(turn) - tf.sin(turn))
    c, d = down * tf.sin(turn), down * (slant * tf.sin(turn) + tf.cos(turn))
    x, y = (tf.cast(width, tf.float32) - 1) / 2, (tf.cast(height, tf.float32) - 1) / 2
    none = tf.zeros_like(turn)
    transforms = tf.stack(
        [a, b, x - a * x - b * y + SHIFT * draw[4], c, d, y - c * x - d * y + SHIFT * draw[5], none, none], axis=-1
    )
    pixels = tf.raw_ops.ImageProjectiveTransformV3(
        images=images[..., tf.newaxis],
        transforms=transforms,
        output_shape=tf.stack([height, width]),
        fill_value=0.0,
        interpolation="BILINEAR",
    )
    return pixels[..., 0]
