"""Pictures turned, slanted, stretched and shifted about their middle, each by amounts of its own."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Changes(NamedTuple):
    """How each of N pictures is changed, float32 [N] each.

    Attributes:
        turn: radians.
        slant: columns per row.
        across: stretch along the rows; 1 leaves it, more shows more of the picture.
        down: stretch along the columns.
        right: columns that the picture moves to the left.
        below: rows that the picture moves up.
    """

    turn: tf.Tensor
    slant: tf.Tensor
    across: tf.Tensor
    down: tf.Tensor
    right: tf.Tensor
    below: tf.Tensor


def changed(images: tf.Tensor, changes: Changes) -> tf.Tensor:
    """Changes each picture of a batch; what comes in from outside is 0.

    Args:
        images: uint8 or float32 [N, height, width].
        changes: of each.

    Returns:
        The same dtype and shape.
    """
    _, height, width = tf.unstack(tf.shape(images))
    turn, slant, across, down, right, below = changes
    # Output to input, about the middle: stretch, then slant, then turn.
    a, b = across * tf.cos(turn), across * (slant * tf.cos(turn) - tf.sin(turn))
    c, d = down * tf.sin(turn), down * (slant * tf.sin(turn) + tf.cos(turn))
    x, y = (tf.cast(width, tf.float32) - 1) / 2, (tf.cast(height, tf.float32) - 1) / 2
    none = tf.zeros_like(turn)
    transforms = tf.stack([a, b, x - a * x - b * y + right, c, d, y - c * x - d * y + below, none, none], axis=-1)
    pixels = tf.raw_ops.ImageProjectiveTransformV3(
        images=images[..., tf.newaxis],
        transforms=transforms,
        output_shape=tf.stack([height, width]),
        fill_value=0.0,
        interpolation="BILINEAR",
    )
    return pixels[..., 0]
