"""What a release of the species classifier compares."""

from __future__ import annotations

import tensorflow as tf

from images.trainer.classification.release import errors, slices
from images.trainer.systems.iris.data import NAMES

__all__ = ["errors", "requests", "slices"]


def requests(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A batch of examples as clients send them: each length by name, float32 [N]."""
    return {name: features["numbers"][:, index] for index, name in enumerate(NAMES)}
