"""Random changes of batches that are written in NumPy, as operations of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Pixels = npt.NDArray[np.uint8]
Change = Callable[[Pixels, np.random.Generator], Pixels]


def randomly(change: Change, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Changes a batch at random, always alike for the same seed.

    Args:
        change: what to do, with the chance to do it by; it keeps the shape.
        images: uint8 [N, height, width].
        seed: int32 or int64 [2], not negative.
    """

    def apply(pixels: Pixels, seeds: npt.NDArray[np.int64]) -> Pixels:
        return change(pixels, np.random.default_rng(seeds.tolist()))

    # It depends on nothing else than its arguments, so that batches may be made side by side.
    changed = tf.numpy_function(apply, [images, seed], tf.uint8, stateful=False)
    return tf.ensure_shape(changed, images.shape)
