"""Examples of pictures as clients send them: as files."""

from __future__ import annotations

import tensorflow as tf


def requests(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A batch of examples as clients send them.

    Args:
        features: `image`: uint8 [N, height, width] or [N, height, width, channels].

    Returns:
        `bytes_inputs`: string [N], PNG files of the same pixels.
    """
    pixels = features["image"]
    pixels = pixels if len(pixels.shape) == 4 else pixels[..., tf.newaxis]
    return {"bytes_inputs": tf.map_fn(tf.io.encode_png, pixels, fn_output_signature=tf.string)}
