"""The detector as a graph that needs nothing else: image files in, boxes in shares of the original picture out.

Prepares a picture as `images.trainer.systems.detection.data` does: the same arithmetic, in TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from images.trainer.graph_pictures import decode_colour, resized
from images.trainer.systems.detection import model

ANSWER = "objects"
GREY = 128


def signatures(network: keras.Model, schema: dict[str, Any]) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """The graph's entry point.

    Args:
        network: from `model.build`.
        schema: the Examples' `schema.json`.

    Returns:
        `serving_default`: takes `bytes_inputs`, string [N]: PNG or JPEG files; and `key`, string [N]. It gives, the
        surest first and 0 after the last: `detection_boxes`: float32 [N, 100, 4], (ymin, xmin, ymax, xmax) as shares
        of the picture as it was sent; `detection_scores`: float32 [N, 100]; `detection_classes`: int32 [N, 100], from
        1 on as label maps count; `detection_class_names`: string [N, 100]; `num_detections`: int32 [N]; `objects`:
        string [N], the names of those that are sure; `confidence`: float32 [N], the score of the surest; and `key` as
        it was.
    """
    height, width = schema["image"]["height"], schema["image"]["width"]
    files = tf.TensorSpec([None], tf.string, name="bytes_inputs")
    keys = tf.TensorSpec([None], tf.string, name="key")
    names = tf.constant(schema["classes"])

    @tf.function(input_signature=[files, keys])
    def serving_default(bytes_inputs: tf.Tensor, key: tf.Tensor) -> dict[str, tf.Tensor]:
        canvases, lying = prepare(bytes_inputs, height, width)
        found = model.answers(network(canvases, training=False), schema)
        there = tf.sequence_mask(found["num_detections"], model.MOST)
        boxes = found["detection_boxes"] * [height, width, height, width]
        offset, scaled = (tf.tile(each, [1, 2])[:, tf.newaxis] for each in (lying[:, :2], lying[:, 2:]))
        boxes = tf.clip_by_value((boxes - offset) / scaled, 0.0, 1.0)
        return {
            "detection_boxes": tf.where(there[..., tf.newaxis], boxes, 0.0),
            "detection_scores": found["detection_scores"],
            "detection_classes": tf.where(there, found["detection_classes"] + 1, 0),
            "detection_class_names": tf.where(there, tf.gather(names, found["detection_classes"]), ""),
            "num_detections": found["num_detections"],
            "objects": found["objects"],
            "confidence": found["confidence"],
            "key": tf.identity(key),
        }

    return {"serving_default": serving_default}


def prepare(files: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes pictures and lays them into canvases.

    Args:
        files: string [N], PNG or JPEG.
        height: of a canvas, pixels.
        width: of a canvas, pixels.

    Returns:
        uint8 [N, height, width, 3]; and float32 [N, 4]: rows above and columns left of the picture, its height and
        width.
    """
    return tf.map_fn(
        lambda file: letterboxed(decode_colour(file), height, width),
        files,
        fn_output_signature=(tf.TensorSpec([height, width, 3], tf.uint8), tf.TensorSpec([4], tf.float32)),
    )


def letterboxed(picture: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Scales a picture to fit a canvas, aspect kept, and lays it in the middle on grey.

    Args:
        picture: uint8 [rows, columns, 3].
        height: of the canvas, pixels.
        width: of the canvas, pixels.

    Returns:
        As `prepare`, of one picture.
    """
    rows, columns = tf.unstack(tf.shape(picture, out_type=tf.int64)[:2])
    by_width = tf.stack([tf.maximum((2 * rows * width + columns) // (2 * columns), 1), width])
    by_height = tf.stack([height, tf.maximum((2 * columns * height + rows) // (2 * rows), 1)])
    size = tf.cast(tf.where(columns * height <= rows * width, by_height, by_width), tf.int32)
    # Like Pillow: along the rows, then along the columns, rounded after each.
    narrowed = resized(picture, tf.stack([tf.cast(rows, tf.int32), size[1]]))
    scaled = resized(narrowed, size)
    above, left = (height - size[0]) // 2, (width - size[1]) // 2
    padding = [[above, height - size[0] - above], [left, width - size[1] - left], [0, 0]]
    canvas = tf.ensure_shape(tf.pad(scaled, padding, constant_values=GREY), [height, width, 3])
    return canvas, tf.cast(tf.stack([above, left, size[0], size[1]]), tf.float32)
