"""The network as a graph that needs nothing else: coordinates in, the quadrant out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from . import model

ANSWER = "class"


def signatures(network: keras.Model, schema: dict[str, Any]) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """`serving_default`: takes `x` and `y`, float32 [N], and `key`, string [N]; gives the answers and `key`."""
    x, y = (tf.TensorSpec([None], tf.float32, name=name) for name in "xy")
    key = tf.TensorSpec([None], tf.string, name="key")

    @tf.function(input_signature=[x, y, key])
    def serving_default(x: tf.Tensor, y: tf.Tensor, key: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = network(tf.stack([x, y], axis=-1), training=False)
        return {**model.answers(logits, schema), "key": tf.identity(key)}

    return {"serving_default": serving_default}
