"""The reader of mammograms: compact residual convolutions, or the network of the datathon's tutorial.

The residual network's norms are over a whole film, and take its exposure away. It ends in the mean over all places,
which is what a share is. Such means hardly differ from film to film, so they are learned from only when they are
centred: by a batch norm, of a memory that is short because trainings are. Layers have names, by which they take initial
weights. The tutorial's network is that of the NUS-MIT datathon (github.com/GoogleCloudPlatform/healthcare, datathon,
`gpu_model.py`): two convolutions and a dense layer of 1024, here on normalised greys.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from images.trainer.classification import networks, outputs
from images.trainer.systems.ddsm import augmentation
from images.trainer.systems.ddsm.densities import CLASSES
from images.trainer.systems.ddsm.hyperparameters import Hyperparameters

GROUPS = 4
MOMENTUM = 0.8


def build(hyperparameters: Hyperparameters, schema: dict[str, Any]) -> keras.Model:
    """Builds the network.

    Args:
        hyperparameters: the network's choices.
        schema: the Examples' `schema.json`: `image` (height and width), `classes`, and of the training split's
            `pixels` the mean and the deviation, which become part of the network.

    Returns:
        A model from uint8 images [N, height, width], the breast against the left edge, to float32 logits [N, classes].
    """
    height, width = schema["image"]["height"], schema["image"]["width"]
    mean, deviation = schema["pixels"]["mean"], max(schema["pixels"]["deviation"], 1.0)
    image = keras.Input((height, width), dtype="uint8", name="image")
    features = layers.Rescaling(1.0 / deviation, -mean / deviation, name="pixels")(image)
    features = layers.Reshape((height, width, 1))(features)
    tutorial = hyperparameters.architecture == "tutorial"
    features = networks.tutorial(features) if tutorial else _residual(features, hyperparameters.width)
    features = layers.Dropout(hyperparameters.dropout)(features)
    logits = layers.Dense(len(schema["classes"]), dtype="float32", name="logits")(features)
    return keras.Model(image, logits, name=f"ddsm_{hyperparameters.architecture}")


def _residual(features: Any, width: int) -> Any:
    features = layers.Conv2D(width, 5, strides=2, padding="same", name="stem")(features)
    for number, factor in enumerate((2, 4), start=1):
        name = f"block_{number}"
        features = layers.Conv2D(factor * width, 3, strides=2, padding="same", name=f"{name}_in")(
            _activated(features, f"{name}_in")
        )
        features = networks.residual(features, _activated, ("glorot_uniform", "glorot_uniform"), name)
    means = layers.GlobalAveragePooling2D()(_activated(features, "out"))
    return layers.BatchNormalization(momentum=MOMENTUM, name="centred")(means)


def _activated(features: Any, name: str | None) -> Any:
    norm = layers.GroupNormalization(GROUPS, name=f"{name}_norm")
    return layers.Activation("relu")(norm(features))


def inputs(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """What the network reads of a batch of examples: uint8 [N, height, width]."""
    return features["image"]


def targets(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """What the loss compares with: float32 [N, classes], the weight of the density at its place, else 0."""
    return features["weight"][:, tf.newaxis] * tf.one_hot(features["label"], len(CLASSES))


def loss() -> keras.losses.Loss:
    """Cross-entropy of the densities' logits; weighted, since a target's sum is its weight."""
    return keras.losses.CategoricalCrossentropy(from_logits=True)


def augment(images: tf.Tensor, seed: tf.Tensor, hyperparameters: Hyperparameters) -> tf.Tensor:
    """Changes each mammogram of a batch at random, always alike for the same seed; uint8 [N, height, width]."""
    return augmentation.augment(images, seed, hyperparameters.augmentation)


def answers(logits: tf.Tensor, schema: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Reads the network's outputs.

    Args:
        logits: float32 [N, classes].
        schema: the Examples' `schema.json`: `classes` names them.

    Returns:
        `class`, `confidence` and `probabilities`, as every classifier gives them, and `expected_density`: float32 [N],
        the mean of the densities by their probability, 1 to 4.
    """
    found = outputs.answers(logits, schema)
    densities = tf.constant([float(name) for name in schema["classes"]])
    return {**found, "expected_density": tf.linalg.matvec(found["probabilities"], densities)}


truths = outputs.truths
