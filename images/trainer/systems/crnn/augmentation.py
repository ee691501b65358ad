"""Other hands from the same words: small shifts, slants and stretches, paler ink, grain."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from images.trainer.affine import Changes, changed
from images.trainer.augmenting import Pixels, grained, randomly

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
    return randomly(other_hands, images, seed)


def other_hands(images: Pixels, random: np.random.Generator) -> Pixels:
    """The same in NumPy."""
    count, _, width = images.shape
    across, down, slant, right, below = random.uniform(-1.0, 1.0, (5, count))
    across, down = 1.0 + STRETCH[0] * across, 1.0 + STRETCH[1] * down
    # Stretched from the left edge, where words begin.
    edge = (across - 1.0) * (width - 1.0) / 2.0
    changes = Changes(np.zeros(count), SLANT * slant, across, down, edge + SHIFT[0] * right, SHIFT[1] * below)
    ink = changed(255 - images, changes)
    paler = np.rint(random.uniform(*INK, (count, 1)) * np.arange(256)).astype(np.int16)
    return grained(ink, 255 - paler, GRAIN, random)
