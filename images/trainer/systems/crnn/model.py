"""The word reader: a small convolutional stem, columns in reading order, a sequence model, CTC.

After Shi, Bai and Yao, "An End-to-End Trainable Neural Network for Image-based Sequence Recognition" (2015);
the dilated residual blocks are those of Bai, Kolter and Koltun, "An Empirical Evaluation of Generic
Convolutional and Recurrent Networks for Sequence Modeling" (2018). Layer norms only: they keep no moving
averages, so that the first epochs are judged by the weights as they are.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from images.trainer.systems.crnn import augmentation, decoding
from images.trainer.systems.crnn.hyperparameters import Hyperparameters

STEM_CHANNELS = (32, 64)
DILATIONS = (1, 2, 4)


def build(hyperparameters: Hyperparameters, schema: dict[str, Any]) -> keras.Model:
    """Builds the network.

    Args:
        hyperparameters: the network's choices.
        schema: the Examples' `schema.json`: `image` (height and width) and `alphabet`.

    Returns:
        A model from uint8 images [N, height, width], dark ink on white, to float32 logits
        [N, ceil(width / 4), len(alphabet) + 1], a character a frame; class 0 is CTC's blank.
    """
    height, width = schema["image"]["height"], schema["image"]["width"]
    image = keras.Input((height, width), dtype="uint8", name="image")
    ink = layers.Rescaling(-1.0 / 255.0, offset=1.0)(image)
    features = layers.Reshape((height, width, 1))(ink)
    for channels, kernel_size in zip(STEM_CHANNELS, (5, 3), strict=True):
        features = layers.Conv2D(channels, kernel_size, strides=2, padding="same")(features)
        features = layers.Activation(hyperparameters.activation)(features)
    _, rows, frames, channels = features.shape
    columns = layers.Permute((2, 1, 3))(features)
    columns = layers.Reshape((frames, rows * channels))(columns)
    columns = layers.Dense(hyperparameters.width)(columns)
    columns = layers.LayerNormalization()(columns)
    if hyperparameters.architecture == "tcn":
        for dilation in DILATIONS:
            columns = _dilated_block(columns, dilation, hyperparameters)
    else:
        lstm = layers.LSTM(hyperparameters.lstm_units, return_sequences=True)
        columns = layers.Bidirectional(lstm)(columns)
    columns = layers.Dropout(hyperparameters.dropout)(columns)
    logits = layers.Dense(len(schema["alphabet"]) + 1, dtype="float32", name="logits")(columns)
    return keras.Model(image, logits, name=f"crnn_{hyperparameters.architecture}")


def _dilated_block(columns: Any, dilation: int, hyperparameters: Hyperparameters) -> Any:
    change = columns
    for _ in range(2):
        change = layers.Activation(hyperparameters.activation)(change)
        change = layers.Conv1D(
            hyperparameters.width, hyperparameters.kernel_size, dilation_rate=dilation, padding="same"
        )(change)
        change = layers.LayerNormalization()(change)
    change = layers.Dropout(hyperparameters.dropout)(change)
    return layers.Add()([columns, change])


def inputs(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """What the network reads of a batch of examples: uint8 [N, height, width]."""
    return features["image"]


def targets(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """What the loss compares with: int64 [N, length], character ids padded with 0."""
    return features["label"]


def augment(images: tf.Tensor, seed: tf.Tensor, hyperparameters: Hyperparameters) -> tf.Tensor:
    """Changes each word of a batch at random, always alike for the same seed; uint8 [N, height, width]."""
    return augmentation.augment(images, seed)


def loss() -> keras.losses.Loss:
    """CTC; label 0 is blank and pad."""
    return keras.losses.CTC()


def answers(logits: tf.Tensor, schema: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Reads the network's outputs.

    Args:
        logits: float32 [N, frames, classes].
        schema: the Examples' `schema.json`.

    Returns:
        `text`: string [N], and `confidence`: float32 [N], the network's probability of that text.
    """
    labels = decoding.greedy(logits)
    text = decoding.text(labels, schema["alphabet"])
    return {"text": text, "confidence": decoding.probability(logits, labels)}


def truths(features: dict[str, tf.Tensor], schema: dict[str, Any]) -> tf.Tensor:
    """The right answers of a batch of examples: string [N], comparable with `answers`' `text`."""
    return decoding.text(features["label"], schema["alphabet"])
