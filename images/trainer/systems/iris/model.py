"""The species classifier: a few dense layers behind a normalization that is part of the graph."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from images.trainer.classification import outputs
from images.trainer.systems.iris.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters, schema: dict[str, Any]) -> keras.Model:
    """Builds the network.

    Args:
        hyperparameters: the network's choices.
        schema: the Examples' `schema.json`: `columns` (mean and deviation of each) and `classes`.

    Returns:
        A model from float32 numbers [N, columns] to float32 logits [N, classes].
    """
    columns = list(schema["columns"].values())
    numbers = keras.Input((len(columns),), name="numbers")
    features = layers.Normalization(
        mean=[column["mean"] for column in columns], variance=[column["deviation"] ** 2 for column in columns]
    )(numbers)
    for units in map(int, hyperparameters.hidden_units.split("-")):
        features = layers.Dense(units, activation=hyperparameters.activation)(features)
        features = layers.Dropout(hyperparameters.dropout)(features)
    logits = layers.Dense(len(schema["classes"]), dtype="float32", name="logits")(features)
    return keras.Model(numbers, logits, name="iris")


def inputs(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """What the network reads of a batch of examples: float32 [N, columns]."""
    return features["numbers"]


def augment(numbers: tf.Tensor, seed: tf.Tensor, hyperparameters: Hyperparameters) -> tf.Tensor:
    """Measurements are taken as they are."""
    return numbers


targets, loss, answers, truths = outputs.targets, outputs.loss, outputs.answers, outputs.truths
