"""Random changes of batches that are written in NumPy, as operations of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Pixels = npt.NDArray[np.uint8]

_ROOM = 32  # pixels each way, by which the pictures of a batch differ in what they show of one sheet of grain


def randomly(change: Callable[..., Any], batch: Any, seed: tf.Tensor) -> Any:
    """Changes a batch at random, always alike for the same seed.

    Args:
        change: what to do, given the batch's arrays and then the chance to do it by; it keeps types and shapes.
        batch: a tensor, such as uint8 [N, height, width], or a tuple of them.
        seed: int32 or int64 [2], not negative.

    Returns:
        The same of the changed batch.
    """
    tensors = tf.nest.flatten(batch)

    def apply(seeds: npt.NDArray[np.int64], *arrays: npt.NDArray[Any]) -> Any:
        return change(*arrays, np.random.default_rng(seeds.tolist()))

    # It depends on nothing else than its arguments, so that batches may be made side by side.
    made = tf.numpy_function(apply, [seed, *tensors], [tensor.dtype for tensor in tensors], stateful=False)
    changed = [tf.ensure_shape(one, like.shape) for one, like in zip(tf.nest.flatten(made), tensors, strict=True)]
    return tf.nest.pack_sequence_as(batch, changed)


def grained(images: Pixels, tones: npt.NDArray[np.int16], deviation: float, random: np.random.Generator) -> Pixels:
    """Gives each picture other greys, and grain over them.

    Args:
        images: uint8 [N, height, width].
        tones: int16 [N, 256]: of each picture, what its greys become.
        deviation: of the grain, in grey levels.
        random: the chance to do it by.

    Returns:
        uint8 [N, height, width].
    """
    count, height, width = images.shape
    sheet = random.standard_normal((height + _ROOM, width + _ROOM), np.float32)
    grain = np.rint(deviation * sheet).astype(np.int16)
    result = np.empty_like(images)
    windows = random.integers(_ROOM, size=(count, 2))
    for image, tone, (top, left), changed in zip(images, tones, windows, result, strict=True):
        changed[:] = np.clip(tone.take(image) + grain[top : top + height, left : left + width], 0, 255)
    return result
