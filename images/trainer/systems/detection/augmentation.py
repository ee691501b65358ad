"""Other pictures from the same ones, with boxes that stay right: other scales and cuts, mirrored, in other light."""

from __future__ import annotations

import functools
import math

import numpy as np
import tensorflow as tf

from images.trainer.affine import Array, warped
from images.trainer.augmenting import randomly
from images.trainer.systems.detection.hyperparameters import Hyperparameters

GREY = 128
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
        seed: int32 or int64 [2], not negative.
        chosen: how far.

    Returns:
        The same of the changed pictures.
    """
    return randomly(functools.partial(other_views, chosen=chosen), (images, targets), seed)  # type: ignore[no-any-return]


def other_views(
    images: Array, targets: Array, random: np.random.Generator, chosen: Hyperparameters
) -> tuple[Array, Array]:
    """The same in NumPy."""
    count, height, width, _ = images.shape
    draw = random.uniform(-1.0, 1.0, (5, count))
    factor, stretch = chosen.zoom ** draw[0], math.sqrt(1.0 + chosen.stretch) ** draw[1]
    mirrored = np.where((draw[2] + 1.0) / 2.0 < chosen.flip, -1.0, 1.0)
    scale = np.stack([factor * stretch, factor / stretch], axis=-1)
    half = np.array([height, width]) / 2
    # Where the middle of the picture comes to lie: a larger one may show any part of it, a smaller one be anywhere.
    middle = half + draw[3:].T * abs(scale - 1.0) * half
    colours = chosen.colour * random.uniform(-1.0, 1.0, (count, 6))
    signed = scale * np.stack([np.ones(count), mirrored], axis=-1)
    pictures = recoloured(images, colours) if chosen.colour else images
    return _moved(pictures, signed, middle), moved_boxes(targets, signed, middle, (height, width))


def moved_boxes(targets: Array, scale: Array, middle: Array, size: tuple[int, int]) -> Array:
    """Moves boxes as their pictures are moved, and drops those of which too little is left.

    Args:
        targets: float32 [N, objects, 6].
        scale: float [N, 2], down and across; below 0 where left and right change places.
        middle: float [N, 2]: where the picture's middle comes to lie, (y, x) in pixels.
        size: (height, width) in pixels.
    """
    half = np.array(size) / 2
    corners = [(targets[..., at : at + 2] - half) * scale[:, np.newaxis] + middle[:, np.newaxis] for at in (0, 2)]
    low, high = np.minimum(*corners), np.maximum(*corners)
    whole = (high - low).prod(axis=-1)
    low, high = low.clip(0.0, size), high.clip(0.0, size)
    sides = high - low
    left = (sides.prod(axis=-1) >= VISIBLE * whole) & (sides.min(axis=-1) >= SMALLEST)
    there = targets[..., 5] * left
    return np.concatenate([low, high, targets[..., 4:5], there[..., np.newaxis]], axis=-1, dtype=np.float32)


def recoloured(images: Array, draw: Array) -> Array:
    """Changes brightness, contrast, saturation and tint.

    Args:
        images: uint8 [N, height, width, 3].
        draw: float [N, 6], -1 to 1: contrast, brightness, tint of each colour, saturation; 0 leaves them.

    Returns:
        The same dtype and shape.
    """
    import cv2

    contrast, brightness, saturation = (1.0 + draw[:, [0, 1, 5]] * (0.5, 0.5, 0.8)).T[..., np.newaxis, np.newaxis]
    tint = 1.0 + 0.25 * draw[:, 2:5, np.newaxis]
    mean = np.array([cv2.mean(image)[:3] for image in images])[..., np.newaxis]
    # Each of these is linear in a pixel's three colours: together they are one matrix a picture, and one pass.
    mix = tint * (saturation * np.eye(3) + (1.0 - saturation) / 3.0)
    matrices = np.concatenate([contrast * mix, (brightness - contrast) * (mix @ mean)], axis=-1)
    return np.stack([cv2.transform(image, matrix) for image, matrix in zip(images, matrices, strict=True)])


def _moved(images: Array, scale: Array, middle: Array) -> Array:
    """The pictures with their middles there, as `moved_boxes` has it."""
    step = 1.0 / scale
    # From a pixel's middle in the result to that in the picture.
    first = np.array(images.shape[1:3]) / 2 - step * middle + (step - 1.0) / 2
    places = np.zeros((len(images), 2, 3))
    places[:, [0, 1], [0, 1]], places[:, :, 2] = step[:, ::-1], first[:, ::-1]
    return warped(images, places, outside=GREY)
