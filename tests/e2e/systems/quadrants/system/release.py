"""What a release compares."""

import tensorflow as tf

from images.trainer.classification.release import errors, slices

__all__ = ["errors", "requests", "slices"]


def requests(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A batch of examples as clients send them: `x` and `y`, float32 [N]."""
    return {"x": features["point"][:, 0], "y": features["point"][:, 1]}
