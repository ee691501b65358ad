"""Pictures in a TensorFlow graph, decoded to the same greys and colours as by `images.trainer.pictures`."""

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
    colours, alpha = _colours(file)
    red, green, blue = tf.unstack(colours, num=3, axis=-1)
    grey = tf.bitwise.right_shift(19595 * red + 38470 * green + 7471 * blue + 32768, 16)
    return _over_paper(grey, alpha, paper)


def decode_colour(file: tf.Tensor) -> tf.Tensor:
    """Decodes a PNG or JPEG file, which is laid over white where it is transparent.

    Args:
        file: string [].

    Returns:
        Colours, uint8 [rows, columns, 3].
    """
    colours, alpha = _colours(file)
    return _over_paper(colours, alpha[..., tf.newaxis], 255)


def decode_deep(file: tf.Tensor) -> tf.Tensor:
    """Decodes a PNG or JPEG file to greys of 16 bits; 8 bits become 16 by a factor of 257.

    Args:
        file: string [].

    Returns:
        float32 [rows, columns], 0 to 65535.
    """
    # Of a PNG's header, the two bytes at 24: 16 bits a sample, of greys without transparency.
    long_enough = tf.strings.length(file) >= 26
    deep = tf.cond(long_enough, lambda: tf.strings.substr(file, 24, 2) == b"\x10\x00", lambda: tf.constant(False))
    deep = tf.logical_and(deep, tf.logical_not(tf.io.is_jpeg(file)))
    return tf.cond(
        deep,
        lambda: tf.cast(tf.io.decode_png(file, channels=1, dtype=tf.uint16)[..., 0], tf.float32),
        lambda: 257.0 * tf.cast(decode_grey(file), tf.float32),
    )


def _colours(file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Red, green and blue, int32 [rows, columns, 3], and alpha, int32 [rows, columns]."""
    pixels = tf.cond(
        tf.io.is_jpeg(file),
        lambda: _opaque(tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")),
        lambda: tf.io.decode_png(file, channels=4),
    )
    pixels = tf.cast(pixels, tf.int32)
    alpha = pixels[..., 3]
    # Where a PNG of 1, 2 or 4 bits has no transparency, TensorFlow adds one of 1, 3 or 15 in place of 255.
    low = tf.reduce_any([tf.reduce_all(alpha == 2**bits - 1) for bits in (1, 2, 4)])
    return pixels[..., :3], tf.where(low, 255, alpha)


def _over_paper(values: tf.Tensor, alpha: tf.Tensor, paper: int) -> tf.Tensor:
    over_paper = values * alpha + paper * (255 - alpha)
    return tf.cast((2 * over_paper + 255) // 510, tf.uint8)


def resized(pixels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Scales uint8 [rows, columns, channels] to `size`, int32 [2], as Pillow's BILINEAR does along one side."""
    scaled = tf.image.resize(pixels, size, method="bilinear", antialias=True)
    return tf.saturate_cast(tf.floor(scaled + 0.5), tf.uint8)


def _opaque(colours: tf.Tensor) -> tf.Tensor:
    return tf.concat([colours, tf.fill([*tf.unstack(tf.shape(colours)[:2]), 1], tf.constant(255, tf.uint8))], axis=-1)
