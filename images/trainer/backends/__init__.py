"""What learning asks of the library that computes: TensorFlow, or JAX where KERAS_BACKEND=jax says so."""

from __future__ import annotations

from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from images.trainer.replicas import Replicas


class Backend(Protocol):
    """Trains and asks a network, here and in step with the other replicas.

    Attributes:
        precision: Keras' name of the dtype policy that suits the devices.
        length_step: sequences are padded to a multiple of this.
    """

    precision: str
    length_step: int

    def fit(self, network: keras.Model, data: tf.data.Dataset) -> float:
        """Trains for one epoch.

        Args:
            network: compiled.
            data: (inputs, targets): of each batch the part that is this replica's.

        Returns:
            The mean loss over the batches of all replicas.
        """

    def judge(self, network: keras.Model, inputs: tf.Tensor, targets: tf.Tensor) -> tuple[Any, float]:
        """The network's outputs for a batch, an array, and their mean loss; by this replica alone."""

    def of_chief(self, values: np.ndarray) -> np.ndarray:
        """The chief's values, of the type int32 [N]; all replicas have to ask, with as many of their own."""

    def lost(self, error: Exception) -> bool:
        """Whether an error says that another replica is gone."""


def backend(replicas: Replicas, share: int, batch: int) -> Backend:
    """The backend that KERAS_BACKEND names, connected to the other replicas.

    Args:
        replicas: who train together.
        share: examples of a batch that are this replica's.
        batch: examples to judge at a time, at most.
    """
    if keras.backend.backend() == "jax":
        from images.trainer.backends.jax import Jax

        return Jax(replicas, share, batch)
    from images.trainer.backends.tensorflow import TensorFlow

    return TensorFlow(replicas)
