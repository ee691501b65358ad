"""The word reader as a graph that needs nothing else: image files in, text and confidence out.

Prepares an image as `images.trainer.systems.crnn.data` defines it: the same arithmetic, in TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from images.trainer.graph_pictures import decode_grey, resized
from images.trainer.systems.crnn import decoding, model

PAPER = 255
ANSWERS = 3  # of the beam search

ANSWER = "text"


def signatures(network: keras.Model, schema: dict[str, Any]) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """The graph's entry points, by name.

    Each takes `bytes_inputs`, string [N]: PNG or JPEG files; and `key`, string [N], which it passes through.

    Args:
        network: from `model.build`.
        schema: the Examples' `schema.json`.

    Returns:
        `serving_default` -> `text`: string [N], `confidence`: float32 [N], `key`.
        `beam` -> `texts`: string [N, 3], `confidences`: float32 [N, 3], the likeliest first, `key`.
        A confidence is the network's probability of that text: of all the ways to spell it, together.
    """
    height, width, alphabet = schema["image"]["height"], schema["image"]["width"], schema["alphabet"]
    files = tf.TensorSpec([None], tf.string, name="bytes_inputs")
    keys = tf.TensorSpec([None], tf.string, name="key")

    def logits(bytes_inputs: tf.Tensor) -> tf.Tensor:
        return network(prepare(bytes_inputs, height, width), training=False)

    @tf.function(input_signature=[files, keys])
    def serving_default(bytes_inputs: tf.Tensor, key: tf.Tensor) -> dict[str, tf.Tensor]:
        return {**model.answers(logits(bytes_inputs), schema), "key": tf.identity(key)}

    @tf.function(input_signature=[files, keys])
    def beam(bytes_inputs: tf.Tensor, key: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = logits(bytes_inputs)
        found = decoding.beam(outputs, ANSWERS)
        texts = tf.stack([decoding.text(labels, alphabet) for labels in found], axis=-1)
        confidences = tf.stack([decoding.probability(outputs, labels) for labels in found], axis=-1)
        order = tf.argsort(confidences, direction="DESCENDING", stable=True)
        return {
            "texts": tf.gather(texts, order, batch_dims=1),
            "confidences": tf.gather(confidences, order, batch_dims=1),
            "key": tf.identity(key),
        }

    return {"serving_default": serving_default, "beam": beam}


def prepare(files: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Decodes and fits images.

    Args:
        files: string [N], PNG or JPEG.
        height: of the result, pixels.
        width: of the result, pixels.

    Returns:
        uint8 [N, height, width], dark ink on white.
    """
    return tf.map_fn(
        lambda file: fit(decode_grey(file), height, width),
        files,
        fn_output_signature=tf.TensorSpec([height, width], tf.uint8),
    )


def fit(grey: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Scales an image to fit, aspect kept, and pads it with white.

    Args:
        grey: uint8 [rows, columns].
        height: of the result, pixels.
        width: of the result, pixels.

    Returns:
        uint8 [height, width].
    """
    rows, columns = tf.unstack(tf.shape(grey, out_type=tf.int64))
    by_width = tf.stack([tf.maximum((2 * rows * width + columns) // (2 * columns), 1), width])
    by_height = tf.stack([height, tf.maximum((2 * columns * height + rows) // (2 * rows), 1)])
    size = tf.cast(tf.where(columns * height <= rows * width, by_height, by_width), tf.int32)
    # Like Pillow: along the rows, then along the columns, rounded after each.
    narrowed = resized(grey[..., tf.newaxis], tf.stack([tf.cast(rows, tf.int32), size[1]]))
    scaled = resized(narrowed, size)[..., 0]
    above, right = (height - size[0]) // 2, width - size[1]
    padded = tf.pad(scaled, [[above, height - size[0] - above], [0, right]], constant_values=PAPER)
    return tf.ensure_shape(padded, [height, width])
