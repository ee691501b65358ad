"""Other hands from the same digits: small shifts, turns, slants and stretches."""

from __future__ import annotations

import functools
import math

import numpy as np
import tensorflow as tf

from images.trainer.affine import Changes, changed
from images.trainer.augmenting import Pixels, randomly

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
    return randomly(functools.partial(other_hands, strength=strength), images, seed) if strength else images


def other_hands(images: Pixels, random: np.random.Generator, strength: float) -> Pixels:
    """The same in NumPy."""
    turn, slant, across, down, right, below = strength * random.uniform(-1.0, 1.0, (6, len(images)))
    across, down = 1.0 + STRETCH * across, 1.0 + STRETCH * down
    return changed(images, Changes(TURN * turn, SLANT * slant, across, down, SHIFT * right, SHIFT * below))
