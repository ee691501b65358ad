"""The species classifier as a graph that needs nothing else: lengths in, in three forms; species out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from images.trainer.systems.iris import model
from images.trainer.systems.iris.data import NAMES

ANSWER = "class"


def signatures(network: keras.Model, schema: dict[str, Any]) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """The graph's entry points, by name.

    Args:
        network: from `model.build`.
        schema: the Examples' `schema.json`.

    Returns:
        `serving_default`: takes `sepal_length`, `sepal_width`, `petal_length` and `petal_width`, float32 [N], in cm.
        `numbers`: takes `numbers`, float32 [N, 4], in that order.
        `csv_row`: takes `csv_row`, string [N], four numbers in that order with commas between them.
        All take `key`, string [N], and give `class`: string [N], `class_id`: int64 [N], `confidence`: float32 [N],
        `probabilities`: float32 [N, 3], `warning`: string [N], empty unless a number is outside those that the
        network was trained on, and `key` as it was.
    """
    key = tf.TensorSpec([None], tf.string, name="key")

    def answered(numbers: tf.Tensor, key: tf.Tensor) -> dict[str, tf.Tensor]:
        numbers = tf.debugging.check_numerics(numbers, "a number is infinite or none")
        answers = model.answers(network(numbers, training=False), schema)
        return {
            **answers,
            "class_id": tf.argmax(answers["probabilities"], axis=-1),
            "warning": warnings(numbers, schema),
            "key": tf.identity(key),
        }

    @tf.function(input_signature=[*(tf.TensorSpec([None], tf.float32, name=name) for name in NAMES), key])
    def serving_default(
        sepal_length: tf.Tensor, sepal_width: tf.Tensor, petal_length: tf.Tensor, petal_width: tf.Tensor, key: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        return answered(tf.stack([sepal_length, sepal_width, petal_length, petal_width], axis=-1), key)

    @tf.function(input_signature=[tf.TensorSpec([None, len(NAMES)], tf.float32, name="numbers"), key])
    def numbers(numbers: tf.Tensor, key: tf.Tensor) -> dict[str, tf.Tensor]:
        return answered(numbers, key)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="csv_row"), key])
    def csv_row(csv_row: tf.Tensor, key: tf.Tensor) -> dict[str, tf.Tensor]:
        columns = tf.io.decode_csv(csv_row, [tf.constant([], tf.float32)] * len(NAMES))
        return answered(tf.stack(columns, axis=-1), key)

    return {"serving_default": serving_default, "numbers": numbers, "csv_row": csv_row}


def warnings(numbers: tf.Tensor, schema: dict[str, Any]) -> tf.Tensor:
    """Which numbers are outside the training split's, and what those are.

    Args:
        numbers: float32 [N, columns].
        schema: the Examples' `schema.json`: `columns` with the `minimum` and `maximum` of each.

    Returns:
        string [N]; empty where all are inside.
    """
    parts = []
    for index, (name, column) in enumerate(schema["columns"].items()):
        low, high = column["minimum"], column["maximum"]
        value = numbers[:, index]
        shown = tf.strings.as_string(value, shortest=True)
        text = tf.strings.join([f"{name} ", shown, f" is outside {low:g} to {high:g} of the training data; "])
        # A float32 that came of a decimal number need not be within its float64.
        outside = (value < low - 1e-4) | (value > high + 1e-4)
        parts.append(tf.where(outside, text, ""))
    return tf.strings.regex_replace(tf.strings.join(parts), "; $", "")
