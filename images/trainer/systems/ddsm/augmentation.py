"""Other films of the same breasts: small shifts, turns and stretches, another exposure, grain.

Nothing is mirrored or cropped: the breast stays whole, against the left edge, its muscle in the upper corner.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import tensorflow as tf

from images.trainer.affine import Changes, changed
from images.trainer.augmenting import Pixels, grained, randomly

SHIFT = 4.0  # pixels down, each way
TURN = math.radians(6.0)
STRETCH = 0.1  # share, each way
EXPOSURE = 0.5  # Greys are raised to a power of 1 / (1 + this) to 1 + this, at most.
GRAIN = 4.0  # grey levels, standard deviation

_GREYS = np.linspace(0.0, 1.0, 256)


def augment(images: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Changes each mammogram of a batch at random, always alike for the same seed.

    Args:
        images: uint8 [N, height, width], the breast against the left edge.
        seed: int32 or int64 [2].
        strength: from 0, which changes nothing, to 1.

    Returns:
        uint8 [N, height, width].
    """
    return randomly(functools.partial(other_films, strength=strength), images, seed) if strength else images


def other_films(images: Pixels, random: np.random.Generator, strength: float) -> Pixels:
    """The same in NumPy."""
    count, _, width = images.shape
    turn, across, down, below, exposure = strength * random.uniform(-1.0, 1.0, (5, count))
    across, down = 1.0 + STRETCH * across, 1.0 + STRETCH * down
    # Stretched from the left edge, where the breast begins.
    edge = (across - 1.0) * (width - 1.0) / 2.0
    changes = Changes(TURN * turn, np.zeros(count), across, down, edge, SHIFT * below)
    films = changed(images, changes, interpolated=False)  # What is lost by half a pixel is lost in the grain.
    exposures = np.rint(255.0 * _GREYS ** ((1.0 + EXPOSURE) ** exposure)[:, np.newaxis]).astype(np.int16)
    # Film that was not exposed has no grain: padding stays black.
    return grained(films, exposures, strength * GRAIN, random) * (films > 0)
