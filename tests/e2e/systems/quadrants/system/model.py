"""The network: one hidden layer."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from images.trainer.classification import outputs

from .hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters, schema: dict[str, Any]) -> keras.Model:
    """A model from float32 points [N, 2] to float32 logits [N, classes]."""
    point = keras.Input((2,), name="point")
    hidden = layers.Dense(hyperparameters.units, activation="tanh")(point)
    return keras.Model(point, layers.Dense(len(schema["classes"]))(hidden), name="quadrants")


def inputs(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """What the network reads of a batch of examples: float32 [N, 2]."""
    return features["point"]


def augment(points: tf.Tensor, seed: tf.Tensor, hyperparameters: Hyperparameters) -> tf.Tensor:
    """Points are taken as they are."""
    return points


targets, loss, answers, truths = outputs.targets, outputs.loss, outputs.answers, outputs.truths
