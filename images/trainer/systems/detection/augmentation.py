"""Other pictures from the same ones, with boxes that stay right: other scales and cuts, mirrored, in other light."""

from __future__ import annotations

import math

import tensorflow as tf

from images.trainer.systems.detection.hyperparameters import Hyperparameters

GREY = 128.0
VISIBLE = 0.35
"""An object of which less than this share is left in the picture is no longer asked for."""

SMALLEST = 3.0  # pixels of the canvas


def augment(
    images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor, chosen: Hyperparameters
) -> tuple[tf.Tensor, tf.Tensor]:
    """Changes each picture of a batch at random, always alike for the same seed.

    Args:
        images: uint8 [N, height, width, 3].
        targets: float32 [N, objects, 6]: box in pixels, class, 1 where there is an object.
        seed: int32 or int64 [2].
        chosen: how far.

    Returns:
        The same of the changed pictures.
    """
    height, width = images.shape[1:3]
    draw = tf.random.stateless_uniform([5, tf.shape(images)[0]], seed, -1.0, 1.0)
    factor = tf.exp(draw[0] * math.log(chosen.zoom))
    stretch = tf.exp(draw[1] * math.log1p(chosen.stretch) / 2)
    mirrored = tf.where((draw[2] + 1.0) / 2.0 < chosen.flip, -1.0, 1.0)
    scale = tf.stack([factor * stretch, factor / stretch], axis=-1)
    size = tf.constant([height, width], tf.float32)
    # Where the middle of the picture comes to lie: a larger one may show any part of it, a smaller one be anywhere.
    middle = size / 2 + tf.transpose(draw[3:5]) * tf.abs(scale - 1.0) * size / 2
    changed = recoloured(images, seed + 1, chosen.colour) if chosen.colour else images
    images = tf.cast(tf.round(_moved(changed, scale, mirrored, middle)), tf.uint8)
    return images, moved_boxes(targets, scale, mirrored, middle, (height, width))


def moved_boxes(
    targets: tf.Tensor, scale: tf.Tensor, mirrored: tf.Tensor, middle: tf.Tensor, size: tuple[int, int]
) -> tf.Tensor:
    """Moves boxes as their pictures are moved, and drops those of which too little is left.

    Args:
        targets: float32 [N, objects, 6].
        scale: float32 [N, 2], down and across.
        mirrored: float32 [N]; -1 where left and right change places, else 1.
        middle: float32 [N, 2]: where the picture's middle comes to lie, (y, x) in pixels.
        size: (height, width) in pixels.
    """
    half = tf.constant(size, tf.float32) / 2
    signed = tf.stack([scale[:, 0], scale[:, 1] * mirrored], axis=-1)[:, tf.newaxis]
    corners = [(targets[..., at : at + 2] - half) * signed + middle[:, tf.newaxis] for at in (0, 2)]
    low, high = tf.minimum(*corners), tf.maximum(*corners)
    whole = tf.reduce_prod(high - low, axis=-1)
    low, high = (tf.clip_by_value(corner, 0.0, tf.constant(size, tf.float32)) for corner in (low, high))
    sides = high - low
    left = tf.reduce_prod(sides, axis=-1) >= VISIBLE * whole
    there = targets[..., 5] * tf.cast(left & (tf.reduce_min(sides, axis=-1) >= SMALLEST), tf.float32)
    return tf.concat([low, high, targets[..., 4:5], there[..., tf.newaxis]], axis=-1)


def recoloured(images: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Changes brightness, contrast, saturation and tint: float32 [N, height, width, 3], from 0 to 255."""
    height, width = images.shape[1:3]
    draw = strength * tf.random.stateless_uniform([6, tf.shape(images)[0], 1, 1], seed, -1.0, 1.0)
    contrast, brightness, saturation = 1.0 + 0.5 * draw[0], 1.0 + 0.5 * draw[1], 1.0 + 0.8 * draw[5]
    tint = 1.0 + 0.25 * tf.concat([draw[2], draw[3], draw[4]], axis=-1)
    pixels = tf.reshape(tf.cast(images, tf.float32), [-1, height * width, 3])
    mean = tf.reduce_mean(pixels, axis=1, keepdims=True)
    # Each of these is linear in a pixel's three colours: together they are one matrix a picture, and one pass.
    mix = (saturation * tf.eye(3) + (1.0 - saturation) / 3.0) * tint
    changed = pixels @ (contrast * mix) + (brightness - contrast) * (mean @ mix)
    return tf.reshape(tf.clip_by_value(changed, 0.0, 255.0), tf.shape(images))


def _moved(images: tf.Tensor, scale: tf.Tensor, mirrored: tf.Tensor, middle: tf.Tensor) -> tf.Tensor:
    height, width = images.shape[1:3]
    size = tf.constant([height, width], tf.float32)
    step = tf.stack([1.0 / scale[:, 0], mirrored / scale[:, 1]], axis=-1)
    # From a pixel's middle in the result to that in the picture: the box's edges lie half a pixel beside them.
    first = size / 2 - step * middle + (step - 1.0) / 2
    boxes = tf.concat([first, first + step * (size - 1.0)], axis=-1) / tf.tile(size - 1.0, [2])
    every = tf.range(tf.shape(images)[0])
    return tf.image.crop_and_resize(images, boxes, every, [height, width], extrapolation_value=GREY)
