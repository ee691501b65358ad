"""The word reader as a graph that needs nothing else: image files in, text and confidence out.

Prepares an image as `images.trainer.systems.crnn.data` defines it: the same arithmetic, in TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from images.trainer.systems.crnn import decoding, model

PAPER = 255
ANSWERS = 3  # of the beam search

SMOKE_OUTPUTS = ("text", "confidence")


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


def decode_grey(file: tf.Tensor) -> tf.Tensor:
    """Decodes a PNG or JPEG file, string [], to greyscale on white, uint8 [rows, columns]."""
    pixels = tf.cond(
        tf.io.is_jpeg(file),
        lambda: _opaque(tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")),
        lambda: tf.io.decode_png(file, channels=4),
    )
    red, green, blue, alpha = tf.unstack(tf.cast(pixels, tf.int32), num=4, axis=-1)
    # Where a PNG of 1, 2 or 4 bits has no transparency, TensorFlow adds one of 1, 3 or 15 in place of 255.
    low = tf.reduce_any([tf.reduce_all(alpha == 2**bits - 1) for bits in (1, 2, 4)])
    alpha = tf.where(low, 255, alpha)
    grey = tf.bitwise.right_shift(19595 * red + 38470 * green + 7471 * blue + 32768, 16)
    over_white = grey * alpha + 255 * (255 - alpha)
    return tf.cast((2 * over_white + 255) // 510, tf.uint8)


def _opaque(colours: tf.Tensor) -> tf.Tensor:
    return tf.concat([colours, tf.fill([*tf.unstack(tf.shape(colours)[:2]), 1], tf.constant(255, tf.uint8))], axis=-1)


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
    narrowed = _resized(grey[..., tf.newaxis], tf.stack([tf.cast(rows, tf.int32), size[1]]))
    scaled = _resized(narrowed, size)[..., 0]
    above, right = (height - size[0]) // 2, width - size[1]
    padded = tf.pad(scaled, [[above, height - size[0] - above], [0, right]], constant_values=PAPER)
    return tf.ensure_shape(padded, [height, width])


def _resized(pixels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    resized = tf.image.resize(pixels, size, method="bilinear", antialias=True)
    return tf.saturate_cast(tf.floor(resized + 0.5), tf.uint8)
