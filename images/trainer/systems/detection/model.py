"""The detector: residual convolutions, a pyramid of three resolutions, and the same heads on each.

One shot and no anchors: every cell of the pyramid says what is at its place, how sure it is, and in which box. The
pyramid is that of Lin et al., "Feature Pyramid Networks" (2017); layer norms keep no moving averages.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from images.trainer.systems.detection import augmentation
from images.trainer.systems.detection.hyperparameters import Hyperparameters
from images.trainer.systems.detection.losses import DetectionLoss
from images.trainer.systems.detection.outputs import BOX, LOGITS, NMS, Rows

STRIDES = (8, 16, 32)
CHANNELS = (2, 3, 4, 6)  # times the width, at strides of 4, 8, 16 and 32
PYRAMID = 3  # times the width
MOST = 100
"""Detections of a picture, at most."""

FAINTEST = 0.02
SURE = 0.5
"""Detections that are surer than this are named in `objects`."""

NOTHING = "nothing"
_PRIOR = 0.01  # how sure a cell is before it has learned anything


def build(hyperparameters: Hyperparameters, schema: dict[str, Any]) -> keras.Model:
    """Builds the network.

    Args:
        hyperparameters: the network's choices.
        schema: the Examples' `schema.json`: `image` (height and width, multiples of 32) and `classes`.

    Returns:
        A model from uint8 images [N, height, width, 3] to float32 rows [N, cells, 8 + classes]; see `outputs`.
    """
    height, width, channels = schema["image"]["height"], schema["image"]["width"], hyperparameters.width
    image = keras.Input((height, width, 3), dtype="uint8", name="image")
    features = layers.Rescaling(1.0 / 64.0, offset=-2.0)(image)
    features = layers.Activation("relu")(layers.Conv2D(channels, 5, strides=2, padding="same")(features))
    levels = []
    for factor in CHANNELS:
        features = layers.Conv2D(factor * channels, 3, strides=2, padding="same")(features)
        for _ in range(hyperparameters.depth):
            features = _residual(features)
        levels.append(layers.Activation("relu")(layers.LayerNormalization()(features)))
    pyramid = _pyramid(levels[1:], PYRAMID * channels)
    heads = [_head(PYRAMID * channels) for _ in range(2)]
    bias = keras.initializers.Constant(-math.log((1 - _PRIOR) / _PRIOR))
    classes = layers.Conv2D(len(schema["classes"]), 3, padding="same", bias_initializer=bias, name="classes")
    shapes = layers.Conv2D(4, 3, padding="same", bias_initializer=_first_shape, name="shapes")
    rows = [
        Rows(stride, hyperparameters.nms_iou)((shapes(heads[1](level)), classes(heads[0](level))))
        for stride, level in zip(STRIDES, pyramid, strict=True)
    ]
    return keras.Model(image, layers.Concatenate(axis=1, dtype="float32", name="cells")(rows), name="detection")


def _residual(features: Any) -> Any:
    change = features
    for _ in range(2):
        change = layers.Activation("relu")(layers.LayerNormalization()(change))
        change = layers.Conv2D(features.shape[-1], 3, padding="same")(change)
    return layers.Add()([features, change])


def _pyramid(levels: list[Any], channels: int) -> list[Any]:
    """What each level sees, with what those of lower resolution see around it."""
    merged: list[Any] = []
    for level in reversed(levels):
        own = layers.Conv2D(channels, 1)(level)
        if merged:
            own = layers.Add()([own, layers.UpSampling2D()(merged[0])])
        merged.insert(0, own)
    return [layers.LayerNormalization()(each) for each in merged]


def _head(channels: int) -> Callable[[Any], Any]:
    """A convolution that all levels share."""
    convolution, norm = layers.Conv2D(channels, 3, padding="same"), layers.LayerNormalization()
    return lambda features: layers.Activation("relu")(norm(convolution(features)))


@keras.saving.register_keras_serializable("detection")
def _first_shape(shape: Any, dtype: Any = None) -> Any:
    """At first every box has its middle in its cell's, and is four strides large."""
    return keras.ops.convert_to_tensor([0.0, 0.0, math.log(4.0), math.log(4.0)], dtype=dtype)


def loss() -> keras.losses.Loss:
    """See `losses`."""
    return DetectionLoss()


def inputs(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """What the network reads of a batch of examples: uint8 [N, height, width, 3]."""
    return features["image"]


def targets(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """What the loss compares with: float32 [N, objects, 6]: box in pixels, class, and 1 where there is an object."""
    numbers = tf.cast(features["classes"], tf.float32)
    there = tf.cast(numbers >= 0, tf.float32)
    return tf.concat([features["boxes"], tf.stack([numbers * there, there], axis=-1)], axis=-1)


def training_pair(
    features: dict[str, tf.Tensor], seed: tf.Tensor, hyperparameters: Hyperparameters
) -> tuple[tf.Tensor, tf.Tensor]:
    """Changes pictures at random, and their boxes alike: inputs and targets of a batch, the same for the same seed."""
    return augmentation.augment(inputs(features), targets(features), seed, hyperparameters)


def answers(rows: tf.Tensor, schema: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Detections from the network's rows; of each class the weaker of two that overlap gives way.

    Args:
        rows: float32 [N, cells, 8 + classes].
        schema: the Examples' `schema.json`.

    Returns:
        The surest first, 0 after the last: `detection_boxes`: float32 [N, 100, 4], (ymin, xmin, ymax, xmax) as shares
        of the canvas; `detection_scores`: float32 [N, 100]; `detection_classes`: int32 [N, 100], numbers from 0;
        `num_detections`: int32 [N]; `objects`: string [N], the names of those that are sure, comparable with a label;
        `confidence`: float32 [N], the score of the surest; and `classes`: string [N, classes], all names.
    """
    rows = tf.cast(rows, tf.float32)
    height, width = schema["image"]["height"], schema["image"]["width"]
    boxes = rows[..., BOX] / tf.constant([height, width, height, width], tf.float32)
    boxes, scores, numbers, count = tf.image.combined_non_max_suppression(
        boxes[:, :, tf.newaxis, :],
        tf.sigmoid(rows[..., LOGITS:]),
        max_output_size_per_class=MOST,
        max_total_size=MOST,
        iou_threshold=tf.reduce_max(rows[..., NMS]),
        score_threshold=FAINTEST,
    )
    numbers = tf.cast(numbers, tf.int32)
    names = tf.constant(schema["classes"])
    return {
        "detection_boxes": boxes,
        "detection_scores": scores,
        "detection_classes": numbers,
        "num_detections": count,
        "objects": _objects(scores, numbers, names),
        "confidence": scores[:, 0],
        "classes": tf.tile(names[tf.newaxis], [tf.shape(boxes)[0], 1]),
    }


def _objects(scores: tf.Tensor, numbers: tf.Tensor, names: tf.Tensor) -> tf.Tensor:
    """The names of sure detections in the order of the classes, as labels have them: "circle, digit, digit"."""
    last = tf.size(names)
    order = tf.sort(tf.where(scores > SURE, numbers, last), axis=-1)
    words = tf.where(order < last, tf.gather(tf.concat([names, [""]], axis=0), order), "")
    marks = tf.where(order < last, ", ", "")
    joined = tf.strings.reduce_join(tf.strings.join([marks, words]), axis=-1)
    return tf.where(joined == "", NOTHING, tf.strings.regex_replace(joined, "^, ", ""))


def truths(features: dict[str, tf.Tensor], schema: dict[str, Any]) -> tf.Tensor:
    """The right answers: float32 [N, objects, 6]: box as shares of the canvas, class or -1, difficult or not."""
    height, width = schema["image"]["height"], schema["image"]["width"]
    boxes = features["boxes"] / tf.constant([height, width, height, width], tf.float32)
    marks = tf.stack([features["classes"], features["difficult"]], axis=-1)
    return tf.concat([boxes, tf.cast(marks, tf.float32)], axis=-1)
