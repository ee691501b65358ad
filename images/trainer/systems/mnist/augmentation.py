"""Other hands from the same digits: small shifts, turns, slants and stretches."""

from __future__ import annotations

import math

import tensorflow as tf

from images.trainer.affine import Changes, changed

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
    draw = strength * tf.random.stateless_uniform([6, tf.shape(images)[0]], seed, -1.0, 1.0)
    across, down = 1.0 + STRETCH * draw[2], 1.0 + STRETCH * draw[3]
    changes = Changes(TURN * draw[0], SLANT * draw[1], across, down, SHIFT * draw[4], SHIFT * draw[5])
    return changed(images, changes)
