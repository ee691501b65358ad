"""The digit reader: small residual convolutions, or the network of the classic tutorial.

The residual blocks follow a stem that halves the picture at once; they start as nothing, and need no norms. The classic
network is that of TensorFlow's "Deep MNIST for Experts": two 5 x 5 convolutions with pooling, a dense layer of 1024,
dropout.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from images.trainer.classification import networks, outputs
from images.trainer.systems.mnist import augmentation
from images.trainer.systems.mnist.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters, schema: dict[str, Any]) -> keras.Model:
    """Builds the network.

    Args:
        hyperparameters: the network's choices.
        schema: the Examples' `schema.json`: `image` (height and width) and `classes`.

    Returns:
        A model from uint8 images [N, height, width], light ink on dark, to float32 logits [N, classes].
    """
    height, width = schema["image"]["height"], schema["image"]["width"]
    image = keras.Input((height, width), dtype="uint8", name="image")
    features = layers.Reshape((height, width, 1))(layers.Rescaling(1.0 / 255.0)(image))
    features = (
        networks.tutorial(features) if hyperparameters.architecture == "classic" else _modern(features, hyperparameters)
    )
    features = layers.Dropout(hyperparameters.dropout)(features)
    logits = layers.Dense(len(schema["classes"]), dtype="float32", name="logits")(features)
    return keras.Model(image, logits, name=f"mnist_{hyperparameters.architecture}")


def _modern(features: Any, hyperparameters: Hyperparameters) -> Any:
    features = _halved(features, hyperparameters.width, 5)
    for factor in (2, 4):
        features = networks.rectified(networks.residual(features))
        features = _halved(features, factor * hyperparameters.width, 3)
    features = networks.rectified(networks.residual(features))
    return layers.Flatten()(features)


def _halved(features: Any, channels: int, size: int) -> Any:
    return layers.Conv2D(channels, size, strides=2, padding="same", kernel_initializer="he_normal")(features)


def inputs(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """What the network reads of a batch of examples: uint8 [N, height, width]."""
    return features["image"]


def augment(images: tf.Tensor, seed: tf.Tensor, hyperparameters: Hyperparameters) -> tf.Tensor:
    """Changes each digit of a batch at random, always alike for the same seed; uint8 [N, height, width]."""
    return augmentation.augment(images, seed, hyperparameters.augmentation)


targets, loss, answers, truths = outputs.targets, outputs.loss, outputs.answers, outputs.truths
