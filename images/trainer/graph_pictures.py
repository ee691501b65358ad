"""Pictures in a TensorFlow graph, decoded to the same greys as `images.trainer.pictures` decodes them to."""

from __future__ import annotations

import tensorflow as tf


def decode_grey(file: tf.Tensor, paper: int = 255) -> tf.Tensor:
    """Decodes a PNG or JPEG file.

    Args:
        file: string [].
        paper: the grey, 0 to 255, that is behind what is transparent.

    Returns:
        Greys, uint8 [rows, columns].
    """
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
    over_paper = grey * alpha + paper * (255 - alpha)
    return tf.cast((2 * over_paper + 255) // 510, tf.uint8)


def resized(pixels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Scales uint8 [rows, columns, channels] to `size`, int32 [2], as Pillow's BILINEAR does along one side."""
    scaled = tf.image.resize(pixels, size, method="bilinear", antialias=True)
    return tf.saturate_cast(tf.floor(scaled + 0.5), tf.uint8)


def _opaque(colours: tf.Tensor) -> tf.Tensor:
    return tf.concat([colours, tf.fill([*tf.unstack(tf.shape(colours)[:2]), 1], tf.constant(255, tf.uint8))], axis=-1)
