"""A network's answers to all examples of a split, beside the truths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from images.trainer import examples, roles

BATCH = 256

Read = tuple[list[Any], dict[str, np.ndarray], dict[str, list[np.ndarray]]]


def read(system: str, folder: str, model: str, split: str = "test") -> Read:
    """The truths, the answers, and all features, of each example.

    Args:
        system: such as "crnn".
        folder: the Examples.
        model: the folder that train wrote.
        split: "validation" or "test".
    """
    roles.load(system, "model")  # It may define layers.
    network = keras.models.load_model(Path(model) / "model.keras", compile=False)
    return Answering(network, system, folder, split)()


class Answering:
    """Asks a network, as often as its weights have changed.

    Args:
        network: from the system's `model.build`.
        system: such as "crnn".
        folder: the Examples.
        split: "validation" or "test".
    """

    def __init__(self, network: keras.Model, system: str, folder: str, split: str) -> None:
        self._schema = schema = examples.schema(folder, system)
        self._folder, self._split = folder, split
        role = roles.load(system, "model")

        @tf.function(reduce_retracing=True)
        def read(batch: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            return role.answers(network(role.inputs(batch), training=False), schema), role.truths(batch, schema)

        self._read = read

    def __call__(self) -> Read:
        """The truths, the answers, and all features, of each example."""
        truths: list[Any] = []
        answers: dict[str, list[np.ndarray]] = {}
        features: dict[str, list[Any]] = {}
        for batch in examples.batches(self._folder, self._schema, self._split, BATCH):
            answer, truth = self._read(batch)
            truths += truth.numpy().tolist()
            for name, values in answer.items():
                answers.setdefault(name, []).append(values.numpy())
            for name, values in batch.items():
                features.setdefault(name, []).extend(values.numpy())
        return truths, {name: np.concatenate(parts) for name, parts in answers.items()}, features
