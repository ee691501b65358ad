"""The reader of mammograms as a graph that needs nothing else: PNG, JPEG or DICOM files in, the density out.

Pictures are made ready exactly as ingest makes them (`data.prepared`). DICOM files are read in the graph too, as long
as they are not compressed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from images.trainer.graph_pictures import decode_deep
from images.trainer.systems.ddsm import graph_dicom, model

ANSWER = "class"
GREY = 257  # 16-bit greys in one of 8 bits


def signatures(network: keras.Model, schema: dict[str, Any]) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """The graph's entry points, by name.

    Args:
        network: from `model.build`.
        schema: the Examples' `schema.json`.

    Returns:
        `serving_default`: takes `bytes_inputs`, string [N]: PNG, JPEG or DICOM files, and `key`, string [N]. It gives
        `class`: string [N], `confidence`: float32 [N], `probabilities`: float32 [N, 4], `expected_density`: float32
        [N], and `key` as it was.
    """
    height, width = schema["image"]["height"], schema["image"]["width"]
    files = tf.TensorSpec([None], tf.string, name="bytes_inputs")

    @tf.function(input_signature=[files, tf.TensorSpec([None], tf.string, name="key")])
    def serving_default(bytes_inputs: tf.Tensor, key: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = network(prepare(bytes_inputs, height, width), training=False)
        return {**model.answers(logits, schema), "key": tf.identity(key)}

    return {"serving_default": serving_default}


def prepare(files: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Decodes mammograms and makes them ready for the network.

    Args:
        files: string [N], PNG, JPEG or DICOM.
        height: of the result, pixels.
        width: of the result, pixels.

    Returns:
        uint8 [N, height, width], the breast against the left edge.
    """

    def prepared(file: tf.Tensor) -> tf.Tensor:
        greys = tf.cond(graph_dicom.is_dicom(file), lambda: graph_dicom.decode_deep(file), lambda: decode_deep(file))
        return fitted(greys, height, width)

    return tf.map_fn(prepared, files, fn_output_signature=tf.TensorSpec([height, width], tf.uint8))


def fitted(greys: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """What `data.prepared` does.

    Args:
        greys: float32 [rows, columns], 0 to 65535.
        height: of the result, pixels.
        width: of the result, pixels.

    Returns:
        uint8 [height, width].
    """
    given = tf.cast(tf.shape(greys), tf.float64)
    scale = tf.reduce_min(tf.constant([height, width], tf.float64) / given)
    size = tf.cast(tf.maximum(tf.round(given * scale), 1.0), tf.int32)
    small = tf.image.resize(greys[..., tf.newaxis], size, method="bilinear", antialias=True)[..., 0]
    half = size[1] // 2
    left, right = tf.reduce_sum(small[:, :half]), tf.reduce_sum(small[:, size[1] - half :])
    turned = tf.cond(left < right, lambda: tf.reverse(small, [1]), lambda: small)
    padded = tf.pad(tf.floor(turned / GREY + 0.5), [[0, height - size[0]], [0, width - size[1]]])
    return tf.ensure_shape(tf.saturate_cast(padded, tf.uint8), [height, width])
