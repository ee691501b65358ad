"""Random changes of batches that are written in NumPy, as operations of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Pixels = npt.NDArray[np.uint8]


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
