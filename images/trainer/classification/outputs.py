"""From logits to answers, and what they are compared with."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def targets(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """What the loss compares with: int64 [N], the class."""
    return features["label"]


def loss() -> keras.losses.Loss:
    """Cross-entropy of the classes' logits."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def answers(logits: tf.Tensor, schema: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Reads the network's outputs.

    Args:
        logits: float32 [N, classes].
        schema: the Examples' `schema.json`: `classes` names them.

    Returns:
        `class`: string [N], the likeliest; `confidence`: float32 [N], its probability; `probabilities`: float32
        [N, classes].
    """
    probabilities = tf.nn.softmax(logits)
    likeliest = tf.argmax(logits, axis=-1)
    return {
        "class": tf.gather(tf.constant(schema["classes"]), likeliest),
        "confidence": tf.reduce_max(probabilities, axis=-1),
        "probabilities": probabilities,
    }


def truths(features: dict[str, tf.Tensor], schema: dict[str, Any]) -> tf.Tensor:
    """The right answers of a batch of examples: string [N], comparable with `answers`' `class`."""
    return tf.gather(tf.constant(schema["classes"]), features["label"])
