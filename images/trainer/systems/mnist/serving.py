"""The digit reader as a graph that needs nothing else: image files in, the digit and all probabilities out.

Pictures of 28 x 28 pixels are taken as ingest takes them: as they are, but dark ink on light is inverted. Any other is
made into one as MNIST's were: the ink, light on dark, is scaled to fit 20 x 20 pixels, aspect kept, and placed so that
its centre of mass is in the middle of 28 x 28. What is transparent is white paper, or black where nothing would be seen
on white.

Source: yann.lecun.com/exdb/mnist, "THE MNIST DATABASE of handwritten digits".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from images.trainer.graph_pictures import decode_grey
from images.trainer.systems.mnist import model

ANSWER = "class"

BOX = 20  # pixels that the ink fits into
MIDDLE = 127.5  # Paper is the larger part of a digit's picture: a mean above this is dark ink on light.
FAINT = 0.1  # Greys up to this share of the darkest ink are paper.


def signatures(network: keras.Model, schema: dict[str, Any]) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """The graph's entry points, by name.

    Args:
        network: from `model.build`.
        schema: the Examples' `schema.json`.

    Returns:
        `serving_default`: takes `bytes_inputs`, string [N]: PNG or JPEG files.
        `classic`: takes `inputs`, float32 [N, 784]: light ink on dark, from 0 to 1, row by row.
        Both take `key`, string [N], and give `class`: string [N], `confidence`: float32 [N], `probabilities`:
        float32 [N, 10], and `key` as it was.
    """
    height, width = schema["image"]["height"], schema["image"]["width"]
    keys = tf.TensorSpec([None], tf.string, name="key")

    def answered(images: tf.Tensor, key: tf.Tensor) -> dict[str, tf.Tensor]:
        return {**model.answers(network(images, training=False), schema), "key": tf.identity(key)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="bytes_inputs"), keys])
    def serving_default(bytes_inputs: tf.Tensor, key: tf.Tensor) -> dict[str, tf.Tensor]:
        return answered(prepare(bytes_inputs, height, width), key)

    @tf.function(input_signature=[tf.TensorSpec([None, height * width], tf.float32, name="inputs"), keys])
    def classic(inputs: tf.Tensor, key: tf.Tensor) -> dict[str, tf.Tensor]:
        greys = tf.saturate_cast(tf.round(255.0 * inputs), tf.uint8)
        return answered(tf.reshape(greys, [-1, height, width]), key)

    return {"serving_default": serving_default, "classic": classic}


def prepare(files: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Decodes pictures, and makes digits of those of another size.

    Args:
        files: string [N], PNG or JPEG.
        height: of the result, pixels.
        width: of the result, pixels.

    Returns:
        uint8 [N, height, width], light ink on dark.
    """

    def prepared(file: tf.Tensor) -> tf.Tensor:
        on_white = decode_grey(file)
        grey = tf.cond(_blank(on_white), lambda: decode_grey(file, paper=0), lambda: on_white)
        right_size = tf.reduce_all(tf.shape(grey) == [height, width])
        digit = tf.cond(right_size, lambda: _light_on_dark(grey), lambda: centred(grey, height, width))
        return tf.ensure_shape(digit, [height, width])

    return tf.map_fn(prepared, files, fn_output_signature=tf.TensorSpec([height, width], tf.uint8))


def centred(grey: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Scales the ink of a picture to MNIST's box and moves its centre of mass to the middle.

    Args:
        grey: uint8 [rows, columns]; what is rarer, dark or light, is ink.
        height: of the result, pixels.
        width: of the result, pixels.

    Returns:
        uint8 [height, width], light ink on dark; all 0 where there is no ink.
    """
    light = tf.cast(grey, tf.float32)
    middle = (tf.reduce_min(light) + tf.reduce_max(light)) / 2.0
    ink = tf.cond(tf.reduce_mean(light) > middle, lambda: 255.0 - light, lambda: light)
    ink -= tf.reduce_min(ink)
    marked = ink > FAINT * tf.reduce_max(ink)
    rows, columns = tf.where(tf.reduce_any(marked, axis=1))[:, 0], tf.where(tf.reduce_any(marked, axis=0))[:, 0]
    blank = tf.zeros([height, width], tf.uint8)
    return tf.cond(tf.size(rows) == 0, lambda: blank, lambda: _placed(ink, rows, columns, height, width))


def _light_on_dark(grey: tf.Tensor) -> tf.Tensor:
    return tf.cond(tf.reduce_mean(tf.cast(grey, tf.float32)) > MIDDLE, lambda: 255 - grey, lambda: grey)


def _blank(grey: tf.Tensor) -> tf.Tensor:
    return tf.reduce_min(grey) == tf.reduce_max(grey)


def _placed(ink: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, height: int, width: int) -> tf.Tensor:
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    size = tf.cast(tf.shape(box), tf.float32)
    size = tf.cast(tf.maximum(tf.round(size * BOX / tf.reduce_max(size)), 1.0), tf.int32)
    small = tf.image.resize(box[..., tf.newaxis], size, method="bilinear", antialias=True)[..., 0]
    small *= 255.0 / tf.maximum(tf.reduce_max(small), 1.0)
    mass = tf.reduce_sum(small)
    down = tf.reduce_sum(small * tf.range(size[0], dtype=tf.float32)[:, tf.newaxis]) / mass
    across = tf.reduce_sum(small * tf.range(size[1], dtype=tf.float32)[tf.newaxis]) / mass
    top = tf.clip_by_value(tf.cast(tf.round((height - 1) / 2 - down), tf.int32), 0, height - size[0])
    left = tf.clip_by_value(tf.cast(tf.round((width - 1) / 2 - across), tf.int32), 0, width - size[1])
    padded = tf.pad(small, [[top, height - size[0] - top], [left, width - size[1] - left]])
    return tf.saturate_cast(tf.round(padded), tf.uint8)
